"""The one tree of errors; its branches say whose fault it is.

ServiceError                 carries a reason of the contract, and with it the canonical code
├── CallerError              the caller broke a rule of the contract
│   └── ValidationFailed     … of a field; lists the fields
├── DependencyError          something this service needs is not there
│   ├── StoreUnavailable     Postgres or Redis
│   └── ModelError           the model endpoint
│       ├── ModelUnavailable … did not answer properly; trying again may help
│       └── ModelRejected    … refused this very request; trying again will not help
└── Bug                      ours
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Final

from agent_runtime import v1

INVALID_ARGUMENT, DEADLINE_EXCEEDED, NOT_FOUND, ALREADY_EXISTS, PERMISSION_DENIED = 3, 4, 5, 6, 7
RESOURCE_EXHAUSTED, FAILED_PRECONDITION, ABORTED, OUT_OF_RANGE = 8, 9, 10, 11
UNIMPLEMENTED, INTERNAL, UNAVAILABLE, UNAUTHENTICATED = 12, 13, 14, 16

CODES: Final[Mapping["v1.ErrorReason.ValueType", int]] = {
    v1.ERROR_REASON_VALIDATION_FAILED: INVALID_ARGUMENT,
    v1.ERROR_REASON_RESUME_TOKEN_INVALID: INVALID_ARGUMENT,
    v1.ERROR_REASON_TOOL_ARGUMENTS_INVALID: INVALID_ARGUMENT,
    v1.ERROR_REASON_CREDENTIALS_INVALID: UNAUTHENTICATED,
    v1.ERROR_REASON_PERMISSION_DENIED: PERMISSION_DENIED,
    v1.ERROR_REASON_SELF_APPROVAL_FORBIDDEN: PERMISSION_DENIED,
    v1.ERROR_REASON_SESSION_NOT_FOUND: NOT_FOUND,
    v1.ERROR_REASON_AGENT_NOT_FOUND: NOT_FOUND,
    v1.ERROR_REASON_TURN_NOT_FOUND: NOT_FOUND,
    v1.ERROR_REASON_TOOL_CALL_NOT_FOUND: NOT_FOUND,
    v1.ERROR_REASON_APPROVAL_NOT_FOUND: NOT_FOUND,
    v1.ERROR_REASON_TOOL_RESULT_CONFLICT: ALREADY_EXISTS,
    v1.ERROR_REASON_IDEMPOTENCY_KEY_REUSED: ALREADY_EXISTS,
    v1.ERROR_REASON_HELLO_REQUIRED: FAILED_PRECONDITION,
    v1.ERROR_REASON_PROTOCOL_VERSION_UNSUPPORTED: FAILED_PRECONDITION,
    v1.ERROR_REASON_SESSION_CLOSED: FAILED_PRECONDITION,
    v1.ERROR_REASON_SEQ_AHEAD_OF_LOG: FAILED_PRECONDITION,
    v1.ERROR_REASON_NOT_EXECUTOR: FAILED_PRECONDITION,
    v1.ERROR_REASON_TURN_IN_PROGRESS: FAILED_PRECONDITION,
    v1.ERROR_REASON_TURN_ALREADY_FINISHED: FAILED_PRECONDITION,
    v1.ERROR_REASON_TOOL_CALL_NOT_DISPATCHED: FAILED_PRECONDITION,
    v1.ERROR_REASON_TOOL_CALL_ALREADY_STARTED: FAILED_PRECONDITION,
    v1.ERROR_REASON_APPROVAL_ALREADY_RESOLVED: FAILED_PRECONDITION,
    v1.ERROR_REASON_APPROVAL_CLAIMED: FAILED_PRECONDITION,
    v1.ERROR_REASON_MODEL_REJECTED: FAILED_PRECONDITION,
    v1.ERROR_REASON_ATTACHMENT_SUPERSEDED: ABORTED,
    v1.ERROR_REASON_APPROVAL_STALE: ABORTED,
    v1.ERROR_REASON_SEQ_COMPACTED: OUT_OF_RANGE,
    v1.ERROR_REASON_QUOTA_EXCEEDED: RESOURCE_EXHAUSTED,
    v1.ERROR_REASON_TOO_MANY_STREAMS: RESOURCE_EXHAUSTED,
    v1.ERROR_REASON_FRAME_TOO_LARGE: RESOURCE_EXHAUSTED,
    v1.ERROR_REASON_TURN_BUDGET_EXCEEDED: RESOURCE_EXHAUSTED,
    v1.ERROR_REASON_SERVER_DRAINING: UNAVAILABLE,
    v1.ERROR_REASON_CLIENT_IDLE_TIMEOUT: UNAVAILABLE,
    v1.ERROR_REASON_DEPENDENCY_UNAVAILABLE: UNAVAILABLE,
    v1.ERROR_REASON_MODEL_UNAVAILABLE: UNAVAILABLE,
    v1.ERROR_REASON_TURN_TIMEOUT: DEADLINE_EXCEEDED,
    v1.ERROR_REASON_UNSUPPORTED_FRAME: UNIMPLEMENTED,
    v1.ERROR_REASON_INTERNAL: INTERNAL,
}
"""Canonical google.rpc.Code of every reason of the contract."""

_PREFIX = "ERROR_REASON_"
_LONGEST_MESSAGE = 2048  # Error.message, and what fits in a status trailer


class ServiceError(Exception):
    """An error with a reason of the contract; `str()` is the text a developer is shown."""

    def __init__(
        self,
        reason: "v1.ErrorReason.ValueType",
        message: str,
        *,
        metadata: Mapping[str, str] | None = None,
        retry_delay: timedelta | None = None,
        violations: Sequence[v1.FieldViolation] = (),
    ) -> None:
        super().__init__(message[:_LONGEST_MESSAGE])
        self.reason = reason
        self.metadata = dict(metadata or {})
        self.retry_delay = retry_delay
        self.violations = tuple(violations)

    @property
    def code(self) -> int:
        """Canonical google.rpc.Code."""
        return CODES[self.reason]

    @property
    def wire_reason(self) -> str:
        """The reason as it stands in Error.reason and ErrorInfo.reason."""
        return v1.ErrorReason.Name(self.reason).removeprefix(_PREFIX)

    def to_error(self) -> v1.Error:
        """Return the error as it stands inside acks and events."""
        error = v1.Error(code=self.code, reason=self.wire_reason, message=str(self), metadata=self.metadata)
        if self.retry_delay is not None:
            error.retry_delay.FromTimedelta(self.retry_delay)
        error.field_violations.extend(self.violations[:64])
        return error


class CallerError(ServiceError):
    """The caller broke a rule of the contract."""


class ValidationFailed(CallerError):
    """Fields break their documented rules; `violations` names each."""

    def __init__(self, violations: Sequence[v1.FieldViolation]) -> None:
        first = violations[0]
        more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
        message = f"{first.field}: {first.description}{more}"
        super().__init__(v1.ERROR_REASON_VALIDATION_FAILED, message, violations=violations)


class DependencyError(ServiceError):
    """Something this service needs is not there."""


class StoreUnavailable(DependencyError):
    """Postgres or Redis cannot be reached or broke the connection."""

    def __init__(self, message: str, *, retry_delay: timedelta = timedelta(seconds=1)) -> None:
        super().__init__(v1.ERROR_REASON_DEPENDENCY_UNAVAILABLE, message, retry_delay=retry_delay)


class ModelError(DependencyError):
    """The model endpoint failed; `kind` says how, in a word that can be counted by."""

    def __init__(
        self,
        reason: "v1.ErrorReason.ValueType",
        message: str,
        *,
        kind: str,
        retry_delay: timedelta | None = None,
    ) -> None:
        super().__init__(reason, message, retry_delay=retry_delay)
        self.kind = kind


class ModelUnavailable(ModelError):
    """The model endpoint did not answer properly; trying again may help."""

    def __init__(self, message: str, *, kind: str = "broken", retry_delay: timedelta | None = None) -> None:
        super().__init__(v1.ERROR_REASON_MODEL_UNAVAILABLE, message, kind=kind, retry_delay=retry_delay)


class ModelBrokeOff(ModelUnavailable):
    """The answer broke off after some of it had been shown; what was shown is void."""


class ModelRejected(ModelError):
    """The model endpoint refused this very request; trying again will not help, but `elsewhere` it may."""

    def __init__(self, message: str, *, kind: str = "rejected", elsewhere: bool = False) -> None:
        super().__init__(v1.ERROR_REASON_MODEL_REJECTED, message, kind=kind)
        self.elsewhere = elsewhere


class Bug(ServiceError):
    """A fault of ours; the text says nothing of its inside."""

    def __init__(self, message: str = "internal error") -> None:
        super().__init__(v1.ERROR_REASON_INTERNAL, message)


def violation(field: str, rule: str, description: str) -> v1.FieldViolation:
    """Return one field violation: the path from the frame root, the rule's name, an English sentence."""
    return v1.FieldViolation(field=field, rule=rule, description=description)


def invalid(field: str, rule: str, description: str) -> ValidationFailed:
    """Return the error of one invalid field."""
    return ValidationFailed([violation(field, rule, description)])
