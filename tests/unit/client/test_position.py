"""The client remembers the highest position it was told, and sends it with its calls."""

import grpc
import pytest

from agent_runtime_client.position import Position


def test_the_highest_one_counts() -> None:
    position = Position()
    assert position.metadata() == ()
    for told in ("0/FF", "1/0", "0/FFFFFFFF", ""):
        position.note(told)
    assert position.metadata() == (("x-agent-runtime-lsn", "1/0"),)


@pytest.mark.parametrize("told", ["", "here", "1/", "/1", "1"])
def test_what_is_none_is_passed_over(told: str) -> None:
    position = Position()
    position.note(told)
    assert position.metadata() == ()


def test_it_is_read_from_trailing_metadata() -> None:
    position = Position()
    position.note_trailing(None)
    position.note_trailing(grpc.aio.Metadata(("other", "2/0")))
    position.note_trailing(grpc.aio.Metadata(("x-agent-runtime-lsn", "2/0")))
    assert position.metadata() == (("x-agent-runtime-lsn", "2/0"),)
