"""The events of one transaction while they are decided."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from google.protobuf.duration_pb2 import Duration

from agent_runtime import v1
from agent_runtime_server.agents.registry import Registry
from agent_runtime_server.core.clock import from_nanos
from agent_runtime_server.engine.limits import Limits
from agent_runtime_server.engine.state import (
    Call,
    Queued,
    State,
    Turn,
)
from agent_runtime_server.engine.turn import Effect, apply, next_effect
from agent_runtime_server.engine.work import Work, done

SYSTEM: Final = v1.Actor(kind=v1.ACTOR_KIND_SYSTEM, subject="agent-runtime")
"""The runtime itself: timers, recovery, policy."""


@dataclass(slots=True)
class Draft:
    """Collects events and folds each at once, so that what follows is decided on the state that it leaves.

    A draft that is not committed has spoiled its state, which must then be loaded anew; so refuse before adding.
    `settings` bound a turn that begins now; one that runs keeps the limits it began with. A session's time never
    runs backwards, whatever the clocks of those who write to it say.
    """

    state: State
    now_nanos: int
    new_id: Callable[[str], str]
    agents: Registry
    settings: Limits
    events: list[v1.SessionEvent] = field(default_factory=list)
    frame_seq: int = 0
    effect_before: Effect | None = field(init=False)  # what a runner may be doing meanwhile
    work_before: Work = field(init=False)

    def __post_init__(self) -> None:
        self.effect_before = next_effect(self.state)
        self.work_before = done(self.state)
        self.reach(self.state.last_nanos)

    def add(self, event: v1.SessionEvent, *, turn_id: str = "", actor: v1.Actor = SYSTEM, frame_id: str = "") -> None:
        """Put the next event, given by its payload, behind the others."""
        event.seq = self.state.head_seq + 1
        event.session_id = self.state.session_id
        event.turn_id = turn_id
        event.create_time.CopyFrom(from_nanos(self.now_nanos))
        event.actor.CopyFrom(actor)
        event.frame_id = frame_id
        if frame_id:
            self.frame_seq = event.seq
        apply(self.state, event)
        self.events.append(event)

    def reach(self, nanos: int) -> None:
        """Take the time for at least this moment: a clock that is behind must not undo what a better one has said."""
        self.now_nanos = max(self.now_nanos, nanos)

    @property
    def limits(self) -> Limits:
        """What bounds the running turn, or one that begins now."""
        turn = self.state.turn
        return self.settings if turn is None or turn.limits is None else turn.limits

    @property
    def turn(self) -> Turn:
        """The running turn, which there must be."""
        assert self.state.turn is not None, "a turn is running"
        return self.state.turn

    def complete(
        self,
        call: Call,
        status: "v1.ToolResult.Status.ValueType",
        text: str = "",
        *,
        error: str = "",
    ) -> None:
        """Give a call the runtime's own result."""
        result = v1.ToolResult(
            call_id=call.call.call_id, status=status, error_message=error, source=v1.ToolResult.SOURCE_SERVER
        )
        if text:
            result.content.add(text=text)
        completed = v1.ToolCallCompleted(result=result)
        self.add(v1.SessionEvent(tool_call_completed=completed), turn_id=self.turn.turn_id)

    def resolve(
        self,
        call: Call,
        state: "v1.ApprovalState.ValueType",
        *,
        actor: v1.Actor = SYSTEM,
        decision: v1.ApprovalDecision | None = None,
        edited: v1.ToolCall | None = None,
        frame_id: str = "",
    ) -> None:
        """Close the approval of a call; `edited` is the call as the reviewer wants it."""
        assert call.approval is not None, "only a call that was asked for is resolved"
        approval = v1.Approval()
        approval.CopyFrom(call.approval)
        approval.state = state
        approval.revision += 1
        approval.decided_by.CopyFrom(actor)
        approval.decide_time.CopyFrom(from_nanos(self.now_nanos))
        if decision is not None:
            approval.decision.CopyFrom(decision)
        if edited is not None:
            approval.tool_call.CopyFrom(edited)
        resolved = v1.ApprovalResolved(approval=approval)
        self.add(v1.SessionEvent(approval_resolved=resolved), turn_id=self.turn.turn_id, actor=actor, frame_id=frame_id)

    def finish(self, state: "v1.TurnState.ValueType", error: v1.Error | None = None) -> None:
        """End the running turn, all calls of which are done."""
        turn = self.turn
        elapsed = duration(self.now_nanos - turn.accepted_nanos)
        finished = v1.TurnFinished(state=state, error=error, usage=turn.usage, elapsed=elapsed)
        self.add(v1.SessionEvent(turn_finished=finished), turn_id=turn.turn_id)

    def drop(self, queued: Queued) -> None:
        """End a turn that never began."""
        elapsed = duration(self.now_nanos - queued.nanos)
        finished = v1.TurnFinished(state=v1.TURN_STATE_CANCELLED, elapsed=elapsed)
        self.add(v1.SessionEvent(turn_finished=finished), turn_id=queued.turn_id)


def agent_actor(agent_id: str) -> v1.Actor:
    """Return an agent as the one who does it."""
    return v1.Actor(kind=v1.ACTOR_KIND_AGENT, subject=agent_id)


def duration(nanos: int) -> Duration:
    """Return nanoseconds as the contract tells them."""
    nanos = max(nanos, 0)
    return Duration(seconds=nanos // 1_000_000_000, nanos=nanos % 1_000_000_000)
