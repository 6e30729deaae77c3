"""A session without a store: drafts are committed by keeping their events, and a crash is a new fold of them."""

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from agent_runtime import v1
from agent_runtime_server.agents.registry import builtin
from agent_runtime_server.core.clock import from_nanos
from agent_runtime_server.engine import frames, settle, steps
from agent_runtime_server.engine.draft import Draft
from agent_runtime_server.engine.limits import Limits
from agent_runtime_server.engine.state import State
from agent_runtime_server.engine.turn import TakeStep, add_usage, apply, next_effect
from agent_runtime_server.llm.base import ModelAnswer, RequestedCall
from agent_runtime_server.tools import catalogue

USER = v1.Actor(kind=v1.ACTOR_KIND_USER, subject="user")
SECOND = 1_000_000_000
CLIENT_TOOLS = tuple(v1.ToolSpec(name=name) for name in catalogue.STANDARD)


@dataclass
class StepIds:
    """Ids of one step."""

    new_id: Callable[[str], str]
    message_id: str = ""
    calls: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.message_id = self.new_id("msg")

    def call_id(self, index: int) -> str:
        return self.calls.setdefault(index, self.new_id("call"))


class World:
    """Drives one session and remembers its log."""

    def __init__(
        self, *, agent_id: str = "coder", limits: Limits | None = None, tools: Sequence[v1.ToolSpec] = CLIENT_TOOLS
    ) -> None:
        self.limits = limits or Limits()
        self.agents = builtin()
        self.nanos = SECOND
        self.usage = v1.Usage(input_tokens=10, output_tokens=1, model_calls=1)  # of an answer
        self.log: list[v1.SessionEvent] = []
        self.worked = v1.Usage()  # as its commits were told to have added
        self.state = State("s1")
        self._numbers = itertools.count(1)
        created = v1.SessionCreated(agent_id=agent_id)
        self.commit(lambda draft: draft.add(v1.SessionEvent(session_created=created)))
        self.commit(lambda draft: frames.attach(draft, self.sender(""), tools))

    def new_id(self, prefix: str) -> str:
        return f"{prefix}-{next(self._numbers)}"

    def sender(self, frame_id: str | None = None, *, client_id: str = "c1", observer: bool = False) -> frames.Sender:
        return frames.Sender(USER, client_id, self.new_id("f") if frame_id is None else frame_id, observer=observer)

    def commit(self, decide: Callable[[Draft], None]) -> list[v1.SessionEvent]:
        """Decide and keep; a refusal leaves no trace."""
        draft = Draft(self.state, self.nanos, self.new_id, self.agents, self.limits)
        try:
            decide(draft)
            settle.settle(draft)
        except BaseException:
            assert not draft.events, "what refuses does so before it adds anything"
            raise
        self.log += draft.events
        add_usage(self.worked, draft.work_before.until(self.state) or v1.Usage())
        return draft.events

    def crash(self) -> None:
        """Lose the memory and fold the log as it would be read from the store."""
        state = State("s1")
        for event in self.log:
            apply(state, v1.SessionEvent.FromString(event.SerializeToString()))
        assert state == self.state, "the fold of the log is the state"
        self.state = state

    def wait(self, seconds: float) -> list[v1.SessionEvent]:
        """Let time pass, and what is due happen."""
        self.nanos += int(seconds * SECOND)
        return self.commit(settle.due)

    def say(self, text: str = "do it", **fields: object) -> list[v1.SessionEvent]:
        message = v1.UserMessage(parts=[v1.Part(text=text)], **fields)  # type: ignore[arg-type]
        return self.commit(lambda draft: frames.user_message(draft, self.sender(), message))

    def answer(
        self, *calls: tuple[str, object], text: str = "", refused: Mapping[int, str] = MappingProxyType({})
    ) -> list[v1.SessionEvent]:
        """Let the model answer the step that is to be taken."""
        effect = next_effect(self.state)
        assert isinstance(effect, TakeStep)
        requested = tuple(
            RequestedCall(name, given if isinstance(given, str) else json.dumps(given)) for name, given in calls
        )
        answer = ModelAnswer(text, "", requested, self.usage, "stop", "m")
        agent = self.agents.get(self.state.agent_id)
        ids = StepIds(self.new_id)
        return self.commit(lambda draft: steps.answered(draft, agent, ids, answer, refused=refused))

    def start(self, call_id: str) -> list[v1.SessionEvent]:
        started = v1.ToolCallStarted(call_id=call_id)
        return self.commit(lambda draft: frames.tool_call_started(draft, self.sender(), started))

    def result(
        self,
        call_id: str,
        status: "v1.ToolResult.Status.ValueType" = v1.ToolResult.STATUS_SUCCEEDED,
        *,
        content: Sequence[v1.Part] = (),
    ) -> list[v1.SessionEvent]:
        content = content or [v1.Part(text=f"result of {call_id}")]
        result = v1.ToolResult(call_id=call_id, status=status, content=content)
        return self.commit(lambda draft: frames.tool_result(draft, self.sender(), result))

    def decide(
        self, verdict: "v1.ApprovalVerdict.ValueType" = v1.APPROVAL_VERDICT_APPROVE, *, edits: str = "", index: int = 0
    ) -> list[v1.SessionEvent]:
        """Decide the open approval at `index`."""
        approval = self.open_approvals()[index]
        decision = v1.ApprovalDecision(
            approval_id=approval.approval_id,
            arguments_sha256=approval.tool_call.arguments_sha256,
            verdict=verdict,
            edited_arguments_json=edits,
        )
        return self.commit(lambda draft: frames.approval_decision(draft, self.sender(), decision, approval))

    def open_approvals(self) -> list[v1.Approval]:
        calls = self.state.turn.open_calls if self.state.turn else []
        approvals = [call.approval for call in calls if call.approval is not None]
        return [approval for approval in approvals if approval.state == v1.APPROVAL_STATE_PENDING]

    def cancel(self, turn_id: str = "", *, drop_queue: bool = False) -> list[v1.SessionEvent]:
        cancel = v1.CancelTurn(turn_id=turn_id, drop_queue=drop_queue)
        return self.commit(lambda draft: frames.cancel_turn(draft, self.sender(), cancel))

    def kinds(self, events: Sequence[v1.SessionEvent]) -> list[str]:
        return [event.WhichOneof("payload") or "" for event in events]

    def dispatched(self, events: Sequence[v1.SessionEvent]) -> list[str]:
        return [
            event.tool_call_dispatched.tool_call.call_id for event in events if event.HasField("tool_call_dispatched")
        ]


def moment(nanos: int) -> str:
    return from_nanos(nanos).ToJsonString()
