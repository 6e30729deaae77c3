"""A reader may stand anywhere in what is left of a log, and nowhere else."""

import pytest

from agent_runtime_server.engine.position import check_position
from enginekit.refusals import refused


@pytest.mark.parametrize("after_seq", [4, 7, 9])
def test_a_reader_may_stand_before_the_oldest_event_and_at_the_head(after_seq: int) -> None:
    check_position(5, 9, after_seq)


@pytest.mark.parametrize(("after_seq", "reason"), [(10, "SEQ_AHEAD_OF_LOG"), (3, "SEQ_COMPACTED")])
def test_elsewhere_it_is_told_what_there_is(after_seq: int, reason: str) -> None:
    with refused(reason, oldestSeq="5", headSeq="9"):
        check_position(5, 9, after_seq)
