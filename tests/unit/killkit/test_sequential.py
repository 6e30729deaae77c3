"""The check of concurrent writers, on answers made by hand."""

from collections.abc import Sequence

import pytest

from agent_runtime import v1
from killkit.sequential import Told, order_problems, replay_problems

_ACCEPTED, _DUPLICATE = v1.FrameAck.OUTCOME_ACCEPTED, v1.FrameAck.OUTCOME_DUPLICATE
_REJECTED = v1.FrameAck.OUTCOME_REJECTED


def _told(frame_id: str, sent: float, *answers: tuple[float, "v1.FrameAck.Outcome.ValueType", int]) -> Told:
    frame = v1.ChatRequest(frame_id=frame_id, cancel_turn=v1.CancelTurn(reason=frame_id))
    return Told(frame, sent, [(at, v1.FrameAck(frame_id=frame_id, outcome=o, seq=seq)) for at, o, seq in answers])


def _log(*frame_ids: str) -> list[v1.SessionEvent]:
    return [
        v1.SessionEvent(seq=seq, frame_id=frame_id, turn_cancel_requested=v1.TurnCancelRequested(reason=frame_id))
        for seq, frame_id in enumerate(frame_ids, start=1)
    ]


def test_frames_that_overlap_may_stand_in_any_order() -> None:
    told = [_told("a", 0, (5, _ACCEPTED, 2)), _told("b", 1, (4, _DUPLICATE, 1), (4, _ACCEPTED, 1))]
    assert [*order_problems(told, _log("b", "a"))] == []


@pytest.mark.parametrize(
    ("told", "log"),
    [
        ([_told("a", 0, (1, _ACCEPTED, 2)), _told("b", 2, (3, _ACCEPTED, 1))], _log("b", "a")),
        ([_told("a", 0, (1, _ACCEPTED, 1), (1, _ACCEPTED, 1))], _log("a")),
        ([_told("a", 0, (1, _ACCEPTED, 1), (2, _DUPLICATE, 2))], _log("a")),
        ([_told("a", 0, (1, _ACCEPTED, 1))], _log("a", "a")),
        ([_told("a", 0, (1, _REJECTED, 0))], _log("a")),
        ([_told("a", 0, (1, _ACCEPTED, 1))], _log("")),
        ([], _log("a")),
    ],
    ids=["real time", "accepted twice", "two seqs", "two events", "rejected", "lost", "nobody's"],
)
def test_what_no_sequential_order_explains_is_found(told: Sequence[Told], log: Sequence[v1.SessionEvent]) -> None:
    assert [*order_problems(told, log)]


def test_a_frame_that_became_another_event_is_found() -> None:
    log = _log("a")
    log[0].turn_cancel_requested.reason = "b"
    assert [*order_problems([_told("a", 0, (1, _ACCEPTED, 1))], log)]


def test_a_log_that_the_engine_would_not_write_is_found() -> None:
    assert [*replay_problems(_log("a"))]
