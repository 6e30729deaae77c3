"""Messages that were written piece by piece are sent and read as if they stood in a list."""

import json
from collections import UserList
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_runtime_server.llm.messages import Message, Written, encode, size, write

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
    assert size(written) == size(told)


def test_they_are_sent_as_they_were_written() -> None:
    written = Written([write([{"role": "user", "content": "Grüße"}])])
    assert encode({"messages": written, "tools": ()}) == b'{"messages":%b,"tools":[]}' % written.json


@given(MESSAGES)
def test_any_kind_of_mapping_and_sequence_is_sent(messages: list[Message]) -> None:
    assert encode(UserList(MappingProxyType(dict(message)) for message in messages)) == encode(messages)


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        encode({"messages": object()})


def test_single_messages_can_be_looked_at() -> None:
    written = Written([write([{"role": "system"}]), write([{"role": "user"}, {"role": "assistant"}])])
    assert written[-1] == {"role": "assistant"}
    assert written[1:] == [{"role": "user"}, {"role": "assistant"}]
