"""Messages that were written piece by piece are sent and read as if they stood in a list."""

import json

from hypothesis import given
from hypothesis import strategies as st

from agent_runtime_server.llm.messages import Message, Written, size, write

PLAIN = st.characters(exclude_categories=["Cs"])
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "tool"]), "content": st.none() | st.text(PLAIN)},
        optional={"tool_calls": st.lists(st.fixed_dictionaries({"id": st.text(PLAIN)}), min_size=1)},
    ),
    max_size=4,
)


@given(st.lists(MESSAGES))
def test_pieces_make_one_list(pieces: list[list[Message]]) -> None:
    written = Written(filter(None, map(write, pieces)))
    told = [message for piece in pieces for message in piece]
    assert [*written] == written[:] == json.loads(written.json) == told
    assert len(written) == len(told)
    assert size(written) == size(told) or not told


def test_single_messages_can_be_looked_at() -> None:
    written = Written([write([{"role": "system"}]), write([{"role": "user"}, {"role": "assistant"}])])
    assert written[-1] == {"role": "assistant"}
    assert written[1:] == [{"role": "user"}, {"role": "assistant"}]
