"""A replica that has enough to do takes on no more turns, and says why and for how long."""

from collections.abc import Mapping

import pytest

from agent_runtime import v1
from agent_runtime_server.core.errors import CallerError
from agent_runtime_server.rpc.admission import Admission, Capacity


def refusal(admission: Admission, tenant: str = "t") -> CallerError | None:
    try:
        with admission.place(tenant):
            pass
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
    admission = Admission(capacity, lambda: 20, lambda: 8, lambda: {"t": 20})
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


def taken_by(tenants: Mapping[str, int], most: int = 20, weights: Mapping[str, int] | None = None) -> Admission:
    capacity = Capacity(running_turns=most)
    return Admission(capacity, lambda: sum(tenants.values()), tenants=lambda: tenants, weights=weights or {})


def test_a_tenant_that_has_taken_all_turns_keeps_nobody_else_out() -> None:
    full = taken_by({"noisy": 20})
    assert refusal(full, "noisy") is not None
    assert refusal(full, "other") is None


def test_who_runs_their_share_waits_like_the_others() -> None:
    full = taken_by({"noisy": 12, "other": 10})
    assert refusal(full, "other") is not None
    assert refusal(full, "third") is None


def test_beyond_what_is_enough_there_is_only_a_quarter_more() -> None:
    full = taken_by({"noisy": 20, "other": 5})
    assert refusal(full, "other") is not None
    assert refusal(full, "third") is not None


def test_shares_go_by_the_tenants_weights() -> None:
    full = taken_by({"noisy": 15, "heavy": 8}, weights={"heavy": 3})
    assert refusal(full, "heavy") is None, "its share is 15"
    assert refusal(full, "noisy") is not None, "its share is 5"


def test_a_share_is_no_way_around_the_other_bounds() -> None:
    admission = Admission(Capacity(running_turns=1, queued_commits=7), lambda: 1, lambda: 8, lambda: {"noisy": 1})
    error = refusal(admission, "other")
    assert error is not None
    assert error.metadata["quota"] == "capacity.queued_commits"


def test_those_that_are_let_in_count_before_they_run() -> None:
    admission = Admission(Capacity(running_turns=3), lambda: 1, tenants=lambda: {"t": 1})
    with admission.place("t"), admission.place("t"):
        error = refusal(admission)
        assert error is not None
        assert str(error).startswith("3 turns run here")
    assert refusal(admission) is None


def test_those_that_are_let_in_are_part_of_their_tenants_share() -> None:
    admission = Admission(Capacity(running_turns=4), lambda: 4, tenants=lambda: {"noisy": 4})
    with admission.place("other"):
        assert refusal(admission, "other") is not None, "beyond there is room for one"
    assert refusal(admission, "other") is None
