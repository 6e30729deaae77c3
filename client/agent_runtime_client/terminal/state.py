"""What a terminal must know about a session, folded from its events."""

from dataclasses import dataclass, field

from agent_runtime import v1
from agent_runtime_client.terminal import calls


@dataclass
class SessionView:
    """The open turns, calls, approvals and question of one session."""

    agent_id: str = ""
    turns: dict[str, None] = field(default_factory=dict)  # unfinished, oldest first
    finished: dict[str, v1.TurnFinished] = field(default_factory=dict)
    cancelling: bool = False
    calls: dict[str, v1.ToolCall] = field(default_factory=dict)
    running: dict[str, None] = field(default_factory=dict)  # dispatched call ids without a result
    approvals: dict[str, v1.Approval] = field(default_factory=dict)  # pending, oldest first
    question: v1.Question | None = None
    parked: bool = False  # the running turn waits for a model
    closed: bool = False

    @property
    def busy(self) -> bool:
        """Whether a turn goes on that does not wait for the user's words."""
        return bool(self.turns) and self.question is None

    def fold(self, event: v1.SessionEvent) -> None:
        """Take one event in."""
        kind = event.WhichOneof("payload")
        handler = getattr(self, f"_{kind}", None)
        if handler is not None:
            handler(event)

    def status(self) -> str:
        """What goes on now, in a few words; empty when nothing does."""
        if self.approvals:
            return "waiting for a decision"
        if self.question is not None:
            return "waiting for your answer"
        if not self.turns:
            return ""
        if self.cancelling:
            return "cancelling"
        if self.running:
            return ", ".join(calls.call_line(self.calls[call_id], 40) for call_id in self.running)
        if self.parked:
            return "waiting for a model to come back"
        return f"{self.agent_id} is thinking" if self.agent_id else "choosing an agent"

    def _session_created(self, event: v1.SessionEvent) -> None:
        if event.session_created.agent_id != "orchestrator":
            self.agent_id = event.session_created.agent_id

    def _user_message(self, event: v1.SessionEvent) -> None:
        self.question = None
        if event.turn_id not in self.finished:
            self.turns[event.turn_id] = None

    def _routing_decided(self, event: v1.SessionEvent) -> None:
        self.agent_id = event.routing_decided.agent_id

    def _turn_started(self, event: v1.SessionEvent) -> None:
        self.agent_id = event.turn_started.agent_id or self.agent_id

    def _agent_handoff(self, event: v1.SessionEvent) -> None:
        self.agent_id = event.agent_handoff.to_agent_id

    def _question_asked(self, event: v1.SessionEvent) -> None:
        self.question = event.question_asked.question

    def _tool_call_proposed(self, event: v1.SessionEvent) -> None:
        call = event.tool_call_proposed.tool_call
        self.calls[call.call_id] = call

    def _tool_call_dispatched(self, event: v1.SessionEvent) -> None:
        call = event.tool_call_dispatched.tool_call
        self.calls[call.call_id] = call
        self.running[call.call_id] = None

    def _tool_call_completed(self, event: v1.SessionEvent) -> None:
        self.running.pop(event.tool_call_completed.result.call_id, None)

    def _approval_requested(self, event: v1.SessionEvent) -> None:
        approval = event.approval_requested.approval
        self.approvals[approval.approval_id] = approval

    def _approval_resolved(self, event: v1.SessionEvent) -> None:
        self.approvals.pop(event.approval_resolved.approval.approval_id, None)

    def _turn_parked(self, _event: v1.SessionEvent) -> None:
        self.parked = True

    def _turn_resumed(self, _event: v1.SessionEvent) -> None:
        self.parked = False

    def _turn_cancel_requested(self, _event: v1.SessionEvent) -> None:
        self.cancelling = True

    def _turn_finished(self, event: v1.SessionEvent) -> None:
        self.turns.pop(event.turn_id, None)
        self.finished[event.turn_id] = event.turn_finished
        self.cancelling = self.parked = False
        self.question = None
        for approval_id in [key for key, approval in self.approvals.items() if approval.turn_id == event.turn_id]:
            del self.approvals[approval_id]

    def _session_closed(self, _event: v1.SessionEvent) -> None:
        self.closed = True
