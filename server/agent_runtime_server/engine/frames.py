"""Client frames to events: each function refuses with a CallerError before it adds anything."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import Final

from agent_runtime import v1
from agent_runtime_server.core.errors import CallerError, invalid
from agent_runtime_server.engine import budget, settle
from agent_runtime_server.engine.draft import Draft
from agent_runtime_server.engine.state import Call, Phase, State
from agent_runtime_server.engine.turn import STOP
from agent_runtime_server.hitl.policy import Ruling, judge
from agent_runtime_server.tools import arguments, catalogue
from agent_runtime_server.tools.dependencies import dependencies

_MOST_WAITING: Final = 100  # messages of a session
_MOST_WAITING_BYTES: Final = 4 << 20
_CROWD_SECONDS: Final = 5


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sent a frame, and how."""

    actor: v1.Actor
    client_id: str
    frame_id: str
    observer: bool = False


def user_message(draft: Draft, sender: Sender, message: v1.UserMessage) -> None:
    """Answer the open question, steer or interrupt the running turn, or start or queue one."""
    _refuse_closed(draft.state)
    if message.agent_id and draft.agents.find(message.agent_id) is None:
        draft.agents.get(message.agent_id)  # raises AGENT_NOT_FOUND with the names there are
    turn = draft.state.turn
    question = turn.question if turn is not None else None
    if message.question_id and (question is None or question.question_id != message.question_id):
        raise invalid("user_message.question_id", "question.open", "this question is not open; leave the field empty")
    if question is not None:
        _answer(draft, sender, message, question)
        return
    _refuse_crowd(draft.state, message)
    if turn is not None and not turn.cancel_nanos and message.delivery == v1.MESSAGE_DELIVERY_STEER:
        _steer(draft, sender, message)
    else:
        turn_id = draft.new_id("turn")
        draft.add(v1.SessionEvent(user_message=message), turn_id=turn_id, actor=sender.actor, frame_id=sender.frame_id)
        if turn is not None and message.delivery == v1.MESSAGE_DELIVERY_INTERRUPT:
            requested = v1.TurnCancelRequested(reason="interrupted by a new message")
            event = v1.SessionEvent(turn_cancel_requested=requested)
            draft.add(event, turn_id=turn.turn_id, actor=sender.actor)


def _refuse_crowd(state: State, message: v1.UserMessage) -> None:
    """Keep the messages that wait for a turn, or for its next step, bounded in number and size."""
    waiting = [queued.message for queued in state.queue]
    waiting += [steering for _, steering in state.turn.steering] if state.turn is not None else ()
    size = sum(one.ByteSize() for one in (*waiting, message))
    if len(waiting) < _MOST_WAITING and (not waiting or size <= _MOST_WAITING_BYTES):
        return
    raise CallerError(
        v1.ERROR_REASON_QUOTA_EXCEEDED,
        f"{len(waiting)} messages wait for this session's turn already; send more when it has heard some",
        metadata={"quota": "session.waiting_messages", "subject": state.session_id, "limit": str(_MOST_WAITING)},
        retry_delay=timedelta(seconds=_CROWD_SECONDS),
    )


def _steer(draft: Draft, sender: Sender, message: v1.UserMessage) -> None:
    if message.agent_id and message.agent_id != draft.state.agent_id:
        raise invalid("user_message.agent_id", "steer.agent", "send switch_agent to change the agent of a running turn")
    event = v1.SessionEvent(user_message=message)
    draft.add(event, turn_id=draft.turn.turn_id, actor=sender.actor, frame_id=sender.frame_id)


def _answer(draft: Draft, sender: Sender, message: v1.UserMessage, question: v1.Question) -> None:
    options = {option.option_id: option for option in question.options}
    for index, option_id in enumerate(message.option_ids):
        if option_id not in options:
            field = f"user_message.option_ids[{index}]"
            raise invalid(field, "question.option", f"choose from {', '.join(options) or 'no options: answer in text'}")
    turn = draft.turn
    event = v1.SessionEvent(user_message=message)
    draft.add(event, turn_id=turn.turn_id, actor=sender.actor, frame_id=sender.frame_id)
    if question.HasField("budget") and STOP in message.option_ids:
        settle.fail(draft, budget.declined(question.budget))
        return
    chosen = [options[option_id] for option_id in message.option_ids]
    if question.call_id:
        lines = [option.label for option in chosen] + [part.text for part in message.parts if part.text]
        draft.complete(turn.calls[question.call_id], v1.ToolResult.STATUS_SUCCEEDED, "\n".join(lines))


def tool_call_started(draft: Draft, sender: Sender, started: v1.ToolCallStarted) -> None:
    """Note that the client is about to run a call."""
    call = _dispatched(draft, sender, started.call_id)
    if call.phase is Phase.STARTED and call.client_id != sender.client_id:
        message = f"{call.client_id} reported that it runs this call"
        raise CallerError(v1.ERROR_REASON_TOOL_CALL_ALREADY_STARTED, message, metadata={"clientId": call.client_id})
    event = v1.SessionEvent(tool_call_started=v1.ToolCallStarted(call_id=started.call_id, client_id=sender.client_id))
    draft.add(event, turn_id=draft.turn.turn_id, actor=sender.actor, frame_id=sender.frame_id)


def tool_result(draft: Draft, sender: Sender, result: v1.ToolResult) -> None:
    """Take the one result of a dispatched call; what the turn cannot hold is cut."""
    _dispatched(draft, sender, result.call_id)
    completed = v1.ToolCallCompleted(result=result, client_id=sender.client_id)
    completed.result.source = v1.ToolResult.SOURCE_CLIENT
    size = completed.result.ByteSize()
    if 0 < draft.limits.turn_bytes < draft.turn.bytes + size and result.content:
        completed.result.ClearField("content")
        completed.result.truncated = True
        completed.result.original_size_bytes = result.original_size_bytes or size
    event = v1.SessionEvent(tool_call_completed=completed)
    draft.add(event, turn_id=draft.turn.turn_id, actor=sender.actor, frame_id=sender.frame_id)


def _dispatched(draft: Draft, sender: Sender, call_id: str) -> Call:
    """Return an open call that the client may start or answer."""
    if sender.observer:
        raise CallerError(v1.ERROR_REASON_NOT_EXECUTOR, "only the executor runs tools; attach with role EXECUTOR")
    turn_id = draft.state.calls.get(call_id)
    if turn_id is None:
        message = f"the session has no call {call_id}, or its turn ended long ago; drop the result"
        raise CallerError(v1.ERROR_REASON_TOOL_CALL_NOT_FOUND, message)
    if draft.state.turn is None or draft.state.turn.turn_id != turn_id:
        raise CallerError(v1.ERROR_REASON_TURN_ALREADY_FINISHED, "the call's turn is over; drop the result")
    call = draft.turn.calls.get(call_id)
    if call is None or call.phase is Phase.DONE:
        raise CallerError(v1.ERROR_REASON_TOOL_RESULT_CONFLICT, "another result was committed first; it stands")
    if call.phase not in (Phase.DISPATCHED, Phase.STARTED):
        message = f"the call is {call.phase.name.lower()}; run it only when tool_call_dispatched says so"
        raise CallerError(v1.ERROR_REASON_TOOL_CALL_NOT_DISPATCHED, message)
    return call


def approval_decision(draft: Draft, sender: Sender, decision: v1.ApprovalDecision, row: v1.Approval) -> None:
    """Decide an approval; `row` is its latest revision, claims included."""
    call = _asked(draft, decision, row)
    edited: v1.ToolCall | None = None
    if decision.verdict != v1.APPROVAL_VERDICT_REJECT and decision.arguments_sha256 != call.call.arguments_sha256:
        raise CallerError(v1.ERROR_REASON_APPROVAL_STALE, "the digest is not that of the call's arguments")
    if decision.verdict == v1.APPROVAL_VERDICT_APPROVE_WITH_EDITS:
        edited = _edited(draft, call, decision.edited_arguments_json)
    state = _VERDICTS[decision.verdict]
    draft.resolve(call, state, actor=sender.actor, decision=decision, edited=edited, frame_id=sender.frame_id)
    if state == v1.APPROVAL_STATE_REJECTED:
        said = f": {decision.comment}" if decision.comment else ""
        draft.complete(call, v1.ToolResult.STATUS_REJECTED, error=f"a human rejected this call{said}")


_VERDICTS = {
    v1.APPROVAL_VERDICT_APPROVE: v1.APPROVAL_STATE_APPROVED,
    v1.APPROVAL_VERDICT_APPROVE_WITH_EDITS: v1.APPROVAL_STATE_APPROVED_WITH_EDITS,
    v1.APPROVAL_VERDICT_REJECT: v1.APPROVAL_STATE_REJECTED,
}


def _asked(draft: Draft, decision: v1.ApprovalDecision, row: v1.Approval) -> Call:
    """Return the call whose open approval the decision is about."""
    turn = draft.state.turn
    calls = turn.open_calls if turn is not None else []
    found = [call for call in calls if call.approval and call.approval.approval_id == decision.approval_id]
    if not found or found[0].phase is not Phase.ASKED:
        raise resolved(row, row.state)
    if settle.expired(found[0], draft.now_nanos):
        raise resolved(row, v1.APPROVAL_STATE_EXPIRED)  # what follows is for the sweeper to settle
    if decision.expected_revision > row.revision:
        raise CallerError(v1.ERROR_REASON_APPROVAL_STALE, f"the approval is at revision {row.revision}")
    return found[0]


def resolved(row: v1.Approval, state: "v1.ApprovalState.ValueType") -> CallerError:
    """Return the error of whoever comes too late to an approval."""
    name = v1.ApprovalState.Name(state).removeprefix("APPROVAL_STATE_")
    metadata = {"state": name, "revision": str(row.revision)}
    return CallerError(v1.ERROR_REASON_APPROVAL_ALREADY_RESOLVED, f"the approval is {name}", metadata=metadata)


def _edited(draft: Draft, call: Call, text: str) -> v1.ToolCall:
    """Hold edited arguments to the same rules as the model's, and find anew what the call must wait for."""
    spec = catalogue.offered(draft.state.tools).get(call.call.tool_name)
    problem = arguments.check(spec, text) if spec is not None else "the client declares this tool no longer"
    if spec is None or problem is not None:
        raise CallerError(v1.ERROR_REASON_TOOL_ARGUMENTS_INVALID, problem or "")
    if 0 < draft.limits.turn_bytes < draft.turn.bytes + len(text.encode()):
        raise CallerError(v1.ERROR_REASON_TOOL_ARGUMENTS_INVALID, "the turn holds too much for arguments of this size")
    assert call.approval is not None, "only a call that was asked for is edited"
    agent = draft.agents.get(call.approval.requester.subject)
    verdict = judge(agent, spec, arguments.parse(text), standard=catalogue.is_standard(spec.name))
    if verdict.ruling is Ruling.DENY:
        raise CallerError(v1.ERROR_REASON_PERMISSION_DENIED, verdict.reason)
    edited = v1.ToolCall()
    edited.CopyFrom(call.call)
    edited.arguments_json, edited.arguments_sha256 = text, sha256(text.encode()).hexdigest()
    del edited.depends_on_call_ids[:]
    edited.depends_on_call_ids.extend(_waits_for(draft, edited))
    return edited


def _waits_for(draft: Draft, edited: v1.ToolCall) -> list[str]:
    """Return the earlier calls of the answer that an edited call conflicts with."""
    before: list[v1.ToolCall] = []
    for call in draft.turn.calls.values():
        if call.call.call_id == edited.call_id:
            break
        before.append(call.call)
    return dependencies([(call, arguments.parse(call.arguments_json)) for call in (*before, edited)])[-1]


def cancel_turn(draft: Draft, sender: Sender, cancel: v1.CancelTurn) -> None:
    """Stop the running turn, or drop one from the queue."""
    state = draft.state
    turn_id = cancel.turn_id or (state.turn.turn_id if state.turn is not None else "")
    queued = next((queued for queued in state.queue if queued.turn_id == turn_id), None)
    running = state.turn is not None and state.turn.turn_id == turn_id
    if not running and queued is None:
        if turn_id in state.finished:
            raise CallerError(v1.ERROR_REASON_TURN_ALREADY_FINISHED, "the turn is over")
        raise CallerError(
            v1.ERROR_REASON_TURN_NOT_FOUND,
            "no turn is running" if not turn_id else "no such turn, or it ended long ago",
        )
    requested = v1.SessionEvent(turn_cancel_requested=v1.TurnCancelRequested(reason=cancel.reason))
    draft.add(requested, turn_id=turn_id, actor=sender.actor, frame_id=sender.frame_id)
    if queued is not None:
        draft.drop(queued)
    if cancel.drop_queue:
        settle.drop_queue(draft)


def switch_agent(draft: Draft, sender: Sender, switch: v1.SwitchAgent) -> None:
    """Put another agent in charge; a running turn goes on with it at its next step, and is not routed any more."""
    _refuse_closed(draft.state)
    agent = draft.agents.get(switch.agent_id)
    handoff = v1.AgentHandoff(from_agent_id=draft.state.agent_id, to_agent_id=agent.agent_id, reason=switch.reason)
    turn_id = draft.state.turn.turn_id if draft.state.turn is not None else ""
    draft.add(v1.SessionEvent(agent_handoff=handoff), turn_id=turn_id, actor=sender.actor, frame_id=sender.frame_id)
    turn = draft.state.turn
    if turn is not None and not turn.routed and not turn.cancel_nanos:
        chosen = v1.RoutingDecided(agent_id=agent.agent_id, probability=1, source=v1.ROUTING_SOURCE_EXPLICIT)
        settle.choose(draft, chosen)


def update_tools(draft: Draft, sender: Sender, update: v1.UpdateTools) -> None:
    """Replace the client's tool list."""
    _refuse_closed(draft.state)
    if sender.observer or sender.client_id != draft.state.executor:
        raise CallerError(v1.ERROR_REASON_NOT_EXECUTOR, "only the executor declares tools")
    check_tools(update.tools, "update_tools.tools")
    event = v1.SessionEvent(tools_updated=v1.ToolsUpdated(tools=update.tools))
    draft.add(event, actor=sender.actor, frame_id=sender.frame_id)


def check_tools(tools: Sequence[v1.ToolSpec], field: str) -> None:
    """Refuse extra tools whose schema cannot be used."""
    for index, tool in enumerate(tools):
        if catalogue.is_standard(tool.name) or catalogue.is_server(tool.name):
            continue
        problem = arguments.check_schema(tool.input_schema_json)
        if problem is not None:
            raise invalid(f"{field}[{index}].input_schema_json", "json_schema", problem)


def would_attach(state: State, sender: Sender, tools: Sequence[v1.ToolSpec]) -> bool:
    """Tell whether making the sender the executor changes anything; a closed log has had its last event."""
    return not state.closed and (state.executor != sender.client_id or list(state.tools) != list(tools))


def attach(draft: Draft, sender: Sender, tools: Sequence[v1.ToolSpec]) -> None:
    """Make the sender the executor with these tools, where that changes anything."""
    state = draft.state
    if not would_attach(state, sender, tools):
        return
    if state.executor != sender.client_id:
        changed = v1.ExecutorChanged(client_id=sender.client_id, epoch=state.executor_epoch + 1)
        draft.add(v1.SessionEvent(executor_changed=changed), actor=sender.actor)
    if list(state.tools) != list(tools):
        draft.add(v1.SessionEvent(tools_updated=v1.ToolsUpdated(tools=tools)), actor=sender.actor)


def _refuse_closed(state: State) -> None:
    if state.closed:
        raise CallerError(v1.ERROR_REASON_SESSION_CLOSED, "the session is closed; make a new one")
