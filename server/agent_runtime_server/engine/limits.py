"""What bounds a turn: set by the operator, and recorded with each turn that begins."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from typing import Final, Literal

from google.protobuf.duration_pb2 import Duration

from agent_runtime import v1

TimeoutAction = Literal["reject", "approve", "wait"]

ACTIONS: Final[Mapping[TimeoutAction, "v1.ApprovalTimeoutAction.ValueType"]] = {
    "reject": v1.APPROVAL_TIMEOUT_ACTION_REJECT,
    "approve": v1.APPROVAL_TIMEOUT_ACTION_APPROVE,
    "wait": v1.APPROVAL_TIMEOUT_ACTION_WAIT,
}
"""What settings call the timeout actions of approvals."""
_MOST_KNOWN: Final = 64
_NAMES: Final = {value: name for name, value in ACTIONS.items()}


@dataclass(frozen=True, slots=True)
class Budget:
    """What a turn and its session may spend; 0 is no limit."""

    tokens: int = 0
    cost_micros: int = 0
    tool_calls: int = 0
    session_tokens: int = 0
    session_cost_micros: int = 0
    session_steps: int = 0
    session_tool_calls: int = 0
    session_seconds: int = 0
    ask_percent: int = 0  # of a budget, after which the user is asked whether to go on


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds a turn; times in seconds."""

    model: str = "default"
    approval_seconds: float = 300
    approval_action: TimeoutAction = "reject"
    turn_seconds: float = 1800
    turn_steps: int = 50
    turn_bytes: int = 0  # of what is said, answered, called and returned in it; 0 is no limit
    turn_handoffs: int = 5
    calls_per_step: int = 128
    cancel_seconds: float = 10
    park_seconds: float = 1800  # of waiting for models in all, 0 to fail at once
    call_seconds: float = 600  # of a call that states no timeout
    call_slack_seconds: float = 60  # on top of a stated one
    budget: Budget = Budget()

    @lru_cache(maxsize=_MOST_KNOWN)  # noqa: B019 - few, small, and the same for turn after turn
    def recorded(self) -> v1.TurnLimits:
        """Return them as they stand in the log, to be copied; the model stands beside them."""
        return v1.TurnLimits(
            turn_timeout=duration(self.turn_seconds),
            steps=self.turn_steps,
            handoffs=self.turn_handoffs,
            calls_per_step=self.calls_per_step,
            cancel_grace=duration(self.cancel_seconds),
            call_timeout=duration(self.call_seconds),
            call_slack=duration(self.call_slack_seconds),
            approval_timeout=duration(self.approval_seconds),
            approval_timeout_action=ACTIONS[self.approval_action],
            park_timeout=duration(self.park_seconds),
            bytes=self.turn_bytes,
            budget=None if self.budget == Budget() else v1.TurnBudget(**asdict(self.budget)),
        )


def of_turn(started: v1.TurnStarted) -> Limits | None:
    """Return the limits that a turn began with, or None when the log does not tell."""
    return _read(started.model, started.limits.SerializeToString()) if started.HasField("limits") else None


@lru_cache(maxsize=_MOST_KNOWN)  # turn after turn has the same
def _read(model: str, recorded: bytes) -> Limits:
    limits = v1.TurnLimits.FromString(recorded)
    return Limits(
        model=model,
        approval_seconds=_seconds(limits.approval_timeout),
        approval_action=_NAMES.get(limits.approval_timeout_action, "reject"),
        turn_seconds=_seconds(limits.turn_timeout),
        turn_steps=limits.steps,
        turn_bytes=limits.bytes,
        turn_handoffs=limits.handoffs,
        calls_per_step=limits.calls_per_step,
        cancel_seconds=_seconds(limits.cancel_grace),
        park_seconds=_seconds(limits.park_timeout) if limits.HasField("park_timeout") else Limits().park_seconds,
        call_seconds=_seconds(limits.call_timeout),
        call_slack_seconds=_seconds(limits.call_slack),
        budget=Budget(**{one.name: getattr(limits.budget, one.name) for one in fields(Budget)}),
    )


def duration(seconds: float) -> Duration:
    """Return a span of time, none when it is negative."""
    nanos = max(round(seconds * 1_000_000_000), 0)
    return Duration(seconds=nanos // 1_000_000_000, nanos=nanos % 1_000_000_000)


def _seconds(span: Duration) -> float:
    return span.seconds + span.nanos / 1_000_000_000
