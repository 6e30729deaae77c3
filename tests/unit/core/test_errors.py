"""Every error says whose fault it is, in words of the contract."""

from datetime import timedelta

import pytest

from agent_runtime import v1
from agent_runtime_server.core import errors
from agent_runtime_server.core.observe import Batch, Nobody


def test_every_reason_of_the_contract_has_a_code() -> None:
    known = {reason for reason in v1.ErrorReason.values() if reason != v1.ERROR_REASON_UNSPECIFIED}
    assert errors.CODES.keys() == known


def test_an_error_becomes_what_stands_in_acks_and_events() -> None:
    error = errors.CallerError(v1.ERROR_REASON_APPROVAL_STALE, "too late", metadata={"revision": "3"})
    assert error.to_error() == v1.Error(
        code=errors.ABORTED, reason="APPROVAL_STALE", message="too late", metadata={"revision": "3"}
    )


def test_a_retry_delay_is_told() -> None:
    error = errors.StoreUnavailable("away", retry_delay=timedelta(seconds=2)).to_error()
    assert (error.reason, error.retry_delay.seconds) == ("DEPENDENCY_UNAVAILABLE", 2)


def test_a_validation_error_names_the_first_field_and_counts_the_others() -> None:
    error = errors.invalid("user_message.parts", "required", "say something")
    assert str(error) == "user_message.parts: say something"
    violations = [errors.violation(f"f{number}", "r", "d") for number in range(70)]
    many = errors.ValidationFailed(violations)
    assert str(many) == "f0: d (and 69 more)"
    assert len(many.to_error().field_violations) == 64, "what a status can carry is bounded"


def test_a_message_is_cut_to_what_fits() -> None:
    assert len(str(errors.ModelRejected("x" * 9999))) == 2048


def test_a_bug_says_nothing_of_its_inside() -> None:
    assert errors.Bug().to_error() == v1.Error(code=errors.INTERNAL, reason="INTERNAL", message="internal error")


@pytest.mark.parametrize(
    ("error", "branch"),
    [
        (errors.invalid("f", "r", "d"), errors.CallerError),
        (errors.StoreUnavailable(""), errors.DependencyError),
        (errors.ModelUnavailable(""), errors.ModelError),
        (errors.ModelRejected(""), errors.ModelError),
        (errors.Bug(), errors.ServiceError),
    ],
)
def test_the_tree_has_one_root(error: errors.ServiceError, branch: type[errors.ServiceError]) -> None:
    assert isinstance(error, branch)
    assert isinstance(error, errors.ServiceError)


def test_nobody_need_observe() -> None:
    nobody = Nobody()
    nobody.batch_committed(Batch(1, 100, 0.1, 0, 0, 0))
    nobody.connection_acquired("primary", 0.1)
    nobody.read_served("primary")
    nobody.watch("pool_size", "Connections.", lambda: 1, pool="primary")
