"""What a log recorded from outside, taken for the cause of a transaction once more.

A transaction begins with what a client, a reviewer, a model or a passed deadline brought; what the engine decided
upon it stands behind. Nothing in the log marks where one ends: all of its events have the same time, and so may those
of the next one.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from agent_runtime import v1
from agent_runtime_server.core.errors import ModelUnavailable, ServiceError
from agent_runtime_server.engine import frames, settle, steps
from agent_runtime_server.engine.budget import NO_CALLS_TODAY
from agent_runtime_server.engine.draft import Draft
from agent_runtime_server.engine.state import State
from agent_runtime_server.engine.turn import Route, TakeStep, next_effect
from agent_runtime_server.llm.base import ModelAnswer, RequestedCall
from agent_runtime_server.tools import catalogue

_UNREAD: Final = "The "  # begins every sentence on arguments that are no JSON object, and no other refusal


@dataclass(frozen=True, slots=True)
class Window:
    """The events of one moment from `start` on, none at or behind `end`: a transaction and perhaps more."""

    events: Sequence[v1.SessionEvent]
    start: int
    end: int

    @property
    def first(self) -> v1.SessionEvent:
        """The event that the transaction begins with."""
        return self.events[self.start]

    def __iter__(self) -> Iterator[v1.SessionEvent]:
        for index in range(self.start, self.end):
            if self.events[index].create_time != self.first.create_time:
                return
            yield self.events[index]

    def behind(self) -> Iterator[v1.SessionEvent]:
        """Yield the events behind the first."""
        events = iter(self)
        next(events)
        return events


@dataclass(frozen=True, slots=True)
class Cause:
    """What set a transaction off, and how it is decided upon."""

    words: str
    decide: Callable[[Draft], None]


def cause_of(state: State, window: Window) -> Cause | None:
    """Return what the window begins with, or None when that is something only the engine decides."""
    kind = window.first.WhichOneof("payload") or ""
    if kind in _DECIDED:
        return None
    find = _CAUSES.get(kind)
    return find(state, window) if find is not None else _as_recorded(window)


def decided(event: v1.SessionEvent) -> bool:
    """Tell whether an event stands inside of a transaction rather than at its beginning."""
    kind = event.WhichOneof("payload") or ""
    if kind == "tool_call_completed":
        return event.tool_call_completed.result.source == v1.ToolResult.SOURCE_SERVER
    if kind == "approval_resolved":
        return not event.approval_resolved.approval.HasField("decision")
    return kind in _DECIDED or kind in ("turn_finished", "session_closed")


def _as_recorded(window: Window) -> Cause:
    """Take an event for what it is: nothing else follows from the log."""
    event = v1.SessionEvent()
    event.CopyFrom(window.first)

    def decide(draft: Draft) -> None:
        draft.add(event, turn_id=event.turn_id, actor=event.actor, frame_id=event.frame_id)

    return Cause("the session begins" if event.HasField("session_created") else "", decide)


def _sender(event: v1.SessionEvent, client_id: str = "") -> frames.Sender:
    return frames.Sender(event.actor, client_id, event.frame_id)


def _user_message(_state: State, window: Window) -> Cause:
    event, message = window.first, v1.UserMessage()
    message.CopyFrom(event.user_message)
    return Cause("the user says", lambda draft: frames.user_message(draft, _sender(event), message))


def _attached(state: State, window: Window) -> Cause:
    """A client attached: with another id, other tools, or both."""
    event, tools = window.first, state.tools
    client_id = event.executor_changed.client_id if event.HasField("executor_changed") else state.executor
    last = event if event.HasField("tools_updated") else next(window.behind(), event)
    if last.HasField("tools_updated") and not last.frame_id:
        tools = tuple(last.tools_updated.tools)
    return Cause("a client attaches", lambda draft: frames.attach(draft, _sender(event, client_id), tools))


def _tools_updated(state: State, window: Window) -> Cause:
    event = window.first
    if not event.frame_id:
        return _attached(state, window)
    update = v1.UpdateTools(tools=event.tools_updated.tools)
    sender = _sender(event, state.executor)
    return Cause("the client declares its tools", lambda draft: frames.update_tools(draft, sender, update))


def _tool_call_started(_state: State, window: Window) -> Cause:
    event, started = window.first, window.first.tool_call_started
    return Cause(
        "the client starts a call",
        lambda draft: frames.tool_call_started(draft, _sender(event, started.client_id), started),
    )


def _tool_call_completed(state: State, window: Window) -> Cause | None:
    event, completed = window.first, window.first.tool_call_completed
    if completed.result.source == v1.ToolResult.SOURCE_SERVER:
        return _stopped(state, window, completed.result.error_message)
    sender = _sender(event, completed.client_id)
    return Cause("the client brings a result", lambda draft: frames.tool_result(draft, sender, completed.result))


def _approval_resolved(state: State, window: Window) -> Cause | None:
    event, approval = window.first, window.first.approval_resolved.approval
    if not approval.HasField("decision"):
        completed = next(window.behind(), v1.SessionEvent())
        return _stopped(state, window, completed.tool_call_completed.result.error_message)
    row = v1.Approval()
    row.CopyFrom(approval)
    row.revision -= 1  # claims count too, and are no events
    return Cause(
        "a human decides", lambda draft: frames.approval_decision(draft, _sender(event), approval.decision, row)
    )


def _stopped(state: State, window: Window, why: str) -> Cause | None:
    """Something ended without its result: the session, the turn, or the time there was for it."""
    if why == settle.CLOSED:
        return _closed(state, window)
    if why.startswith(settle.TURN_FAILED):
        return _failed(state, window)
    return Cause("a deadline passes", settle.due)


def _turn_finished(state: State, window: Window) -> Cause | None:
    if window.first.turn_finished.state == v1.TURN_STATE_FAILED:
        return _failed(state, window)
    return _closed(state, window)


def _failed(state: State, window: Window) -> Cause | None:
    """The turn failed: its time was over, or its step could not be taken."""
    error = next((one.turn_finished.error for one in window if one.HasField("turn_finished")), None)
    if error is None:
        return None
    parked = state.turn is not None and state.turn.parked is not None
    if parked or error.reason == _Recorded.timeout:
        return Cause("a deadline passes", settle.due)
    if next_effect(state) is None:
        return None
    failure = _Recorded(error)
    return Cause("a step cannot be taken", lambda draft: steps.failed(draft, failure))


class _Recorded(ServiceError):
    """An error as the log has it."""

    timeout: Final = v1.ErrorReason.Name(v1.ERROR_REASON_TURN_TIMEOUT).removeprefix("ERROR_REASON_")

    def __init__(self, error: v1.Error) -> None:
        super().__init__(v1.ERROR_REASON_INTERNAL, error.message)
        self._error = error

    @property
    def wire_reason(self) -> str:
        return self._error.reason

    def to_error(self) -> v1.Error:
        return self._error


class _Unavailable(ModelUnavailable):
    """The failure of every model as the log has it."""

    def __init__(self, error: v1.Error) -> None:
        delay = error.retry_delay.ToTimedelta() if error.HasField("retry_delay") else None
        super().__init__(error.message, retry_delay=delay)


def _closed(_state: State, window: Window) -> Cause | None:
    event = next((one for one in window if one.HasField("session_closed")), None)
    if event is None:
        return None
    reason, actor = event.session_closed.reason, event.actor
    return Cause("the session is closed", lambda draft: settle.close(draft, reason, actor))


def _turn_cancel_requested(state: State, window: Window) -> Cause:
    event = window.first
    queued = {one.turn_id for one in state.queue}
    behind = (one for one in window.behind() if not (one.turn_id == event.turn_id and event.turn_id in queued))
    dropped = next(behind, event)
    drop_queue = dropped.HasField("turn_finished") and dropped.turn_id in queued
    cancel = v1.CancelTurn(turn_id=event.turn_id, reason=event.turn_cancel_requested.reason, drop_queue=drop_queue)
    return Cause("a cancel is asked for", lambda draft: frames.cancel_turn(draft, _sender(event), cancel))


def _turn_recovered(_state: State, window: Window) -> Cause:
    cause = window.first.turn_recovered.cause
    if cause == v1.TurnRecovered.CAUSE_MODEL_RETRY:
        failure = _Unavailable(next(window.behind(), v1.SessionEvent()).turn_parked.error)
        return Cause("the model's answer breaks off", lambda draft: steps.broke_off(draft, failure))
    return Cause("another server takes over", lambda draft: steps.recovered(draft, cause))


def _turn_parked(state: State, window: Window) -> Cause | None:
    if not isinstance(next_effect(state), TakeStep):
        return None
    failure = _Unavailable(window.first.turn_parked.error)
    return Cause("no model answers", lambda draft: steps.unavailable(draft, failure))


def _agent_handoff(state: State, window: Window) -> Cause | None:
    event, handoff = window.first, window.first.agent_handoff
    if not event.frame_id:
        return _routing_decided(state, window)
    switch = v1.SwitchAgent(agent_id=handoff.to_agent_id, reason=handoff.reason)
    return Cause("the agent is switched", lambda draft: frames.switch_agent(draft, _sender(event), switch))


def _routing_decided(state: State, window: Window) -> Cause | None:
    chosen = next((one.routing_decided for one in window if one.HasField("routing_decided")), None)
    if chosen is None or not isinstance(next_effect(state), Route):
        return None
    return Cause("the router chooses", lambda draft: settle.choose(draft, chosen))


def _assistant_message(state: State, window: Window) -> Cause | None:
    message = window.first.assistant_message
    if not message.step_id or not isinstance(next_effect(state), TakeStep):
        return None
    calls = [*_proposed(window)]
    refusals = _refusals(window)
    refused = {
        index: why
        for index, call in enumerate(calls)
        if (why := refusals.get(call.call_id, "")).endswith(NO_CALLS_TODAY)
        or (call.arguments_json == "{}" and why.startswith(_UNREAD))
    }
    offered = catalogue.offered(state.tools)
    requested = tuple(
        RequestedCall(_as_written(call.tool_name, refusals.get(call.call_id, ""), offered), call.arguments_json)
        for call in calls
    )
    answer = ModelAnswer(_text(message.parts), _text(message.reasoning), requested, message.usage, "", message.model)
    ids = _StepIds(message.message_id, [call.call_id for call in calls])

    def decide(draft: Draft) -> None:
        steps.answered(draft, draft.agents.get(message.agent_id), ids, answer, refused=refused)

    return Cause("the model answers", decide)


@dataclass(frozen=True, slots=True)
class _StepIds:
    """The ids that a step had."""

    message_id: str
    calls: Sequence[str]

    def call_id(self, index: int) -> str:
        """Return the id of the call at `index` of the answer."""
        return self.calls[index]


def _proposed(window: Window) -> Iterator[v1.ToolCall]:
    """Yield the calls of the answer that the window begins with."""
    step_id = window.first.assistant_message.step_id
    for event in window.behind():
        call = event.tool_call_proposed.tool_call
        if not event.HasField("tool_call_proposed") or call.step_id != step_id:
            return
        yield call


def _refusals(window: Window) -> Mapping[str, str]:
    """Return why calls of the answer were refused at once."""
    results = (event.tool_call_completed.result for event in window if event.HasField("tool_call_completed"))
    return {result.call_id: result.error_message for result in results}


def _as_written(name: str, refusal: str, offered: Mapping[str, v1.ToolSpec]) -> str:
    """Return a name as the model may have written it: one that only looks like a tool's once it is in the log."""
    if name in offered and refusal.startswith("there is no tool"):
        return name.replace("_", " ", 1)
    return name


def _text(parts: Sequence[v1.Part]) -> str:
    return parts[0].text if parts else ""


def _session_forked(_state: State, window: Window) -> Cause:
    event = window.first
    return Cause("the session is forked", lambda draft: settle.fork(draft, event.session_forked, event.actor))


_DECIDED: Final = frozenset(
    {
        "turn_started",
        "tool_call_proposed",
        "approval_requested",
        "tool_call_dispatched",
        "question_asked",
        "steering_seen",
    }
)

_CAUSES: Final[Mapping[str, Callable[[State, Window], Cause | None]]] = {
    "user_message": _user_message,
    "executor_changed": _attached,
    "tools_updated": _tools_updated,
    "tool_call_started": _tool_call_started,
    "tool_call_completed": _tool_call_completed,
    "approval_resolved": _approval_resolved,
    "turn_finished": _turn_finished,
    "turn_cancel_requested": _turn_cancel_requested,
    "turn_recovered": _turn_recovered,
    "turn_parked": _turn_parked,
    "turn_resumed": lambda _state, _window: Cause("a model is back", settle.resume),
    "agent_handoff": _agent_handoff,
    "routing_decided": _routing_decided,
    "assistant_message": _assistant_message,
    "session_closed": _closed,
    "session_forked": _session_forked,
}
