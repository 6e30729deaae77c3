"""What a session is, as its log tells it: its turn, its calls, what waits."""

from dataclasses import dataclass, field
from enum import IntEnum

from agent_runtime import v1
from agent_runtime_server.core.transcript import Called, Entry, Told, kept_bytes
from agent_runtime_server.engine.limits import Limits


class Phase(IntEnum):
    """How far a call has come."""

    PROPOSED = 1
    ASKED = 2
    READY = 3
    DISPATCHED = 4
    STARTED = 5
    DONE = 6


@dataclass(slots=True)
class Call:
    """A call of the running turn's last answer."""

    called: Called
    phase: Phase = Phase.PROPOSED
    approval: v1.Approval | None = None
    client_id: str = ""
    deadline_nanos: int = 0

    @property
    def call(self) -> v1.ToolCall:
        """The call, with its final arguments."""
        return self.called.call

    @property
    def on_server(self) -> bool:
        """Whether the runtime runs it itself."""
        return self.call.executor == v1.TOOL_EXECUTOR_SERVER


@dataclass(slots=True)
class Parked:
    """A turn's wait for a model."""

    since_nanos: int
    retry_nanos: int  # before which it is not tried again
    deadline_nanos: int
    error: v1.Error


@dataclass(slots=True)
class Queued:
    """A user message whose turn has not begun."""

    turn_id: str
    seq: int
    nanos: int
    message: v1.UserMessage
    subject: str = ""  # who said it


@dataclass(slots=True)
class Turn:
    """The running turn."""

    turn_id: str
    first_seq: int
    accepted_nanos: int
    started_nanos: int
    message: v1.UserMessage
    limits: Limits | None = None  # those it began with, where the log tells
    attempt: int = 1
    routed: bool = False
    steps: int = 0
    handoffs: int = 0
    calls: dict[str, Call] = field(default_factory=dict)
    question: v1.Question | None = None
    steering: list[tuple[int, v1.UserMessage]] = field(default_factory=list)  # (seq, message) not seen by a step yet
    cancel_nanos: int = 0  # when stopping was asked for, 0 while it was not
    parked: Parked | None = None
    parks: int = 0  # since the last answer
    parked_nanos: int = 0  # how long it has waited for models in all
    broken: int = 0  # answers that broke off since the last whole one
    waiting_nanos: int = 0  # since when it waits for a human or a model, 0 while it does not
    paused_nanos: int = 0  # how long it has waited for them in all
    usage: v1.Usage = field(default_factory=v1.Usage)
    subject: str = ""  # who asked for it
    last_usage: v1.Usage = field(default_factory=v1.Usage)  # of the last answer
    tool_calls: int = 0  # proposed in all
    bytes: int = 0  # of what was said, answered, called and returned
    granted: dict[str, int] = field(
        default_factory=dict
    )  # of the turn's budgets, how much was used at the last consent

    def worked_nanos(self, nanos: int) -> int:
        """Return how long it has taken at a moment, without waiting for a human or a model."""
        return (self.waiting_nanos or nanos) - self.started_nanos - self.paused_nanos

    @property
    def open_calls(self) -> list[Call]:
        """Calls without a result, in the order of the answer."""
        return [call for call in self.calls.values() if call.phase is not Phase.DONE]

    @property
    def state(self) -> "v1.TurnState.ValueType":
        """The public state; a dispatched call outweighs an open approval, and that a question."""
        if self.cancel_nanos:
            return v1.TURN_STATE_CANCELLING
        phases = {call.phase for call in self.calls.values()}
        if phases & {Phase.DISPATCHED, Phase.STARTED}:
            return v1.TURN_STATE_WAITING_FOR_TOOL
        if Phase.ASKED in phases:
            return v1.TURN_STATE_WAITING_FOR_APPROVAL
        if self.question:
            return v1.TURN_STATE_WAITING_FOR_USER
        return v1.TURN_STATE_PARKED if self.parked else v1.TURN_STATE_RUNNING


@dataclass(slots=True)
class State:
    """A session, as its log tells it."""

    session_id: str
    head_seq: int = 0
    last_nanos: int = 0
    agent_id: str = ""
    agent_revision: str = ""
    closed: bool = False
    tools: tuple[v1.ToolSpec, ...] = ()
    tools_bytes: int = 0
    executor: str = ""
    executor_epoch: int = 0
    transcript: list[Entry] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)  # the finished turns of the transcript, oldest first
    turn: Turn | None = None
    queue: list[Queued] = field(default_factory=list)
    calls: dict[str, str] = field(default_factory=dict)  # call_id -> turn_id, of the latest turns, oldest first
    finished: list[str] = field(default_factory=list)  # ids of the latest turns, oldest first
    last_turn: v1.Turn | None = None
    usage: v1.Usage = field(default_factory=v1.Usage)
    granted: dict[str, int] = field(default_factory=dict)  # as in a turn, of the session's budgets
    tool_calls: int = 0  # of the finished turns, as is the usage
    worked_nanos: int = 0  # how long they took, without waiting for humans and models

    @property
    def bytes(self) -> int:
        """Size of the content it holds: finished turns that are remembered, the running one, what waits, tools."""
        waiting = sum(queued.message.ByteSize() for queued in self.queue)
        running = self.turn.bytes if self.turn is not None else 0
        return kept_bytes(self.told) + running + waiting + self.tools_bytes
