"""A replica that has enough to do takes on no more turns, and says why and for how long."""

import pytest

from agent_runtime import v1
from agent_runtime_server.core.errors import CallerError
from agent_runtime_server.rpc.admission import Admission, Capacity


def refusal(admission: Admission) -> CallerError | None:
    try:
        admission.check()
    except CallerError as error:
        return error
    return None


@pytest.mark.parametrize(
    ("capacity", "told"),
    [
        (Capacity(running_turns=20), "20 turns run here, and 20 are enough"),
        (Capacity(queued_commits=7), "8 commits wait here, and 7 are enough"),
        (Capacity(lag_seconds=0.25), "0.3 s is how late the event loop is here, and 0.25 are enough"),
    ],
)
def test_each_bound_refuses_and_is_named(capacity: Capacity, told: str) -> None:
    admission = Admission(capacity, lambda: 20, lambda: 8)
    admission.late(0.3)
    error = refusal(admission)
    assert error is not None
    assert str(error).startswith(told)
    assert error.reason == v1.ERROR_REASON_QUOTA_EXCEEDED
    assert error.metadata["quota"].startswith("capacity.")
    assert error.retry_delay is not None
    assert 1 <= error.retry_delay.total_seconds() <= 3


def test_what_is_below_its_bound_or_has_none_is_let_in() -> None:
    assert (
        refusal(Admission(Capacity(running_turns=21, queued_commits=9, lag_seconds=1), lambda: 20, lambda: 8)) is None
    )
    busy = Admission(Capacity(), lambda: 10**6, lambda: 10**6)
    busy.late(100)
    assert refusal(busy) is None


def test_a_lag_that_is_over_is_forgotten_soon() -> None:
    admission = Admission(Capacity(lag_seconds=0.5))
    admission.late(1)
    assert refusal(admission) is not None
    for _ in range(4):
        admission.late(0)
    assert refusal(admission) is None
