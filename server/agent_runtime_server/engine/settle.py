"""What follows by itself from the state: dispatches, stops, ends, the next turn, and what deadlines bring."""

import json
from typing import Final

from agent_runtime import v1
from agent_runtime_server.core.clock import after, from_nanos
from agent_runtime_server.core.errors import CallerError, ModelUnavailable, ServiceError
from agent_runtime_server.engine import budget
from agent_runtime_server.engine.draft import Draft, agent_actor, duration
from agent_runtime_server.engine.state import (
    Call,
    Phase,
    Queued,
    State,
    Turn,
)
from agent_runtime_server.engine.turn import TakeStep, next_effect
from agent_runtime_server.tools import catalogue

ROUTER: Final = "orchestrator"
"""The agent that chooses others; a turn of its session begins with a choice."""
SWITCH_AGENT: Final = "switch_agent"
ATTEMPT_COMPLETION: Final = "attempt_completion"
ASK_QUESTION: Final = "ask_followup_question"

CLOSED: Final = "the session was closed"
"""What is said of calls that a closed session leaves open."""
FORKED: Final = "the session was forked here"
"""What is said of calls that were open where a session was forked."""
TURN_FAILED: Final = "the turn failed: "
"""What is said, before the reason, of calls that a failed turn leaves open."""

_SECOND = 1_000_000_000
_CANCELLED = "the turn was cancelled"


def settle(draft: Draft) -> None:
    """Add every event that needs nobody from outside, until there is none left."""
    before = -1
    while len(draft.events) != before:
        before = len(draft.events)
        if draft.state.turn is None:
            _start_next(draft)
        elif draft.turn.cancel_nanos:
            _stop(draft)
        else:
            _go_on(draft)


def _start_next(draft: Draft) -> None:
    """Begin the turn of the oldest queued message."""
    state = draft.state
    if not state.queue or state.closed:
        return
    message = state.queue[0].message
    turn_id = state.queue[0].turn_id
    agent_id = message.agent_id or state.agent_id
    agent = draft.agents.find(agent_id)
    started = v1.TurnStarted(agent_id=agent_id, model=(agent and agent.model) or draft.limits.model)
    started.limits.CopyFrom(draft.limits.recorded())
    draft.add(v1.SessionEvent(turn_started=started), turn_id=turn_id)
    if message.agent_id:
        choose(draft, v1.RoutingDecided(agent_id=agent_id, probability=1, source=v1.ROUTING_SOURCE_EXPLICIT))
    elif agent_id != ROUTER:
        choose(draft, v1.RoutingDecided(agent_id=agent_id, probability=-1, source=v1.ROUTING_SOURCE_STICKY))


def choose(draft: Draft, decided: v1.RoutingDecided) -> None:
    """Settle which agent answers the turn."""
    turn_id = draft.turn.turn_id
    if decided.agent_id != draft.state.agent_id:
        handoff = v1.AgentHandoff(
            from_agent_id=draft.state.agent_id, to_agent_id=decided.agent_id, reason=decided.reasoning
        )
        draft.add(v1.SessionEvent(agent_handoff=handoff), turn_id=turn_id)
    draft.add(v1.SessionEvent(routing_decided=decided), turn_id=turn_id)


def _go_on(draft: Draft) -> None:
    """Dispatch what is free to run; once the rest is done, let the server tools that end a step act."""
    turn = draft.turn
    for call in turn.open_calls:
        if call.phase is Phase.READY and not _blocked(turn, call):
            _dispatch(draft, call)
    if turn.open_calls and all(call.on_server for call in turn.open_calls) and turn.question is None:
        _end_step(draft)
    if next_effect(draft.state) is not None and (reached := budget.reached(draft.state, draft.limits)) is not None:
        if reached.ends:
            fail(draft, budget.exceeded(reached))
        else:
            _ask_to_go_on(draft, reached)
    elif turn.steering:
        _show_steering(draft)


def _ask_to_go_on(draft: Draft, reached: budget.Account) -> None:
    """Let the user say whether a budget that is partly used may be used further."""
    question = budget.question(reached, draft.new_id("question"), draft.state.agent_id)
    draft.add(v1.SessionEvent(question_asked=v1.QuestionAsked(question=question)), turn_id=draft.turn.turn_id)


def _show_steering(draft: Draft) -> None:
    """Let messages that steer the turn reach a step that is about to begin; one in hand goes on without them."""
    effect = next_effect(draft.state)
    if isinstance(effect, TakeStep) and effect != draft.effect_before:
        seen = v1.SteeringSeen(message_seqs=[seq for seq, _ in draft.turn.steering], step_number=effect.number)
        draft.add(v1.SessionEvent(steering_seen=seen), turn_id=effect.turn_id)


def _blocked(turn: Turn, call: Call) -> bool:
    waited_for = (turn.calls.get(call_id) for call_id in call.call.depends_on_call_ids)
    return any(other is not None and other.phase is not Phase.DONE for other in waited_for)


def _dispatch(draft: Draft, call: Call) -> None:
    timeout = catalogue.call_timeout(_spec(draft.state, call.call.tool_name), call.call.arguments_json)
    limits = draft.limits
    seconds = limits.call_seconds if timeout is None else timeout.total_seconds() + limits.call_slack_seconds
    dispatched = v1.ToolCallDispatched(
        tool_call=call.call,
        approval_id=call.approval.approval_id if call.approval else "",
        deadline=after(from_nanos(draft.now_nanos), seconds),
    )
    draft.add(v1.SessionEvent(tool_call_dispatched=dispatched), turn_id=draft.turn.turn_id)


def _spec(state: State, tool_name: str) -> v1.ToolSpec:
    return catalogue.offered(state.tools).get(tool_name) or v1.ToolSpec(name=tool_name)


def _end_step(draft: Draft) -> None:
    """Let switch_agent and attempt_completion act, which wait for every other call of their answer."""
    turn = draft.turn
    others = [call for call in turn.calls.values() if not call.on_server]
    failed = [call for call in others if _status(call) != v1.ToolResult.STATUS_SUCCEEDED]
    for call in turn.open_calls:
        if call.call.tool_name == SWITCH_AGENT:
            _switch(draft, call)
        elif call.call.tool_name == ATTEMPT_COMPLETION:
            if failed or turn.steering:
                why = "the user said more" if turn.steering else f"{failed[0].call.tool_name} did not succeed"
                why = f"not complete: {why}; look at that first"
                draft.complete(call, v1.ToolResult.STATUS_FAILED, error=why)
            else:
                return _complete_turn(draft, call)
    return None


def _status(call: Call) -> int:
    return call.called.result.status if call.called.result else v1.ToolResult.STATUS_UNSPECIFIED


def _switch(draft: Draft, call: Call) -> None:
    """Hand the turn to another agent, once an answer and a bounded number of times a turn."""
    arguments = json.loads(call.call.arguments_json)
    wanted = str(arguments.get("agent", ""))
    refusal = _switch_refusal(draft, wanted)
    if refusal:
        return draft.complete(call, v1.ToolResult.STATUS_FAILED, error=refusal)
    draft.complete(call, v1.ToolResult.STATUS_SUCCEEDED, f"{wanted} goes on")
    handoff = v1.AgentHandoff(
        from_agent_id=draft.state.agent_id, to_agent_id=wanted, reason=str(arguments.get("reason", ""))
    )
    event = v1.SessionEvent(agent_handoff=handoff)
    return draft.add(event, turn_id=draft.turn.turn_id, actor=agent_actor(draft.state.agent_id))


def _switch_refusal(draft: Draft, wanted: str) -> str:
    if draft.agents.find(wanted) is None:
        return f"there is no agent {wanted!r}"
    if wanted == draft.state.agent_id:
        return f"{wanted} is in charge already"
    if draft.turn.handoffs >= draft.limits.turn_handoffs:
        return f"the turn had its {draft.limits.turn_handoffs} handoffs; go on yourself or end the turn"
    return ""


def _complete_turn(draft: Draft, call: Call) -> None:
    """End the turn with the text of attempt_completion as its last message."""
    result = str(json.loads(call.call.arguments_json).get("result", ""))
    draft.complete(call, v1.ToolResult.STATUS_SUCCEEDED, "the turn is complete")
    for other in draft.turn.open_calls:
        draft.complete(other, v1.ToolResult.STATUS_CANCELLED, error="the turn was completed first")
    message = v1.AssistantMessage(message_id=draft.new_id("msg"), agent_id=draft.state.agent_id)
    message.parts.add(text=result)
    turn_id = draft.turn.turn_id
    draft.add(v1.SessionEvent(assistant_message=message), turn_id=turn_id, actor=agent_actor(draft.state.agent_id))
    draft.finish(v1.TURN_STATE_COMPLETED)


def _stop(draft: Draft) -> None:
    """Complete what has not begun; what has begun is the client's to stop, within the grace period."""
    turn = draft.turn
    overdue = draft.now_nanos >= turn.cancel_nanos + int(draft.limits.cancel_seconds * _SECOND)
    for call in turn.open_calls:
        if call.phase is not Phase.STARTED or overdue:
            abandon(draft, call, v1.ToolResult.STATUS_CANCELLED, _CANCELLED)
    if not turn.open_calls:
        draft.finish(v1.TURN_STATE_CANCELLED)


def abandon(draft: Draft, call: Call, status: "v1.ToolResult.Status.ValueType", why: str) -> None:
    """Complete an open call that will not be waited for, and close its approval."""
    if call.phase is Phase.ASKED:
        draft.resolve(call, v1.APPROVAL_STATE_CANCELLED)
    draft.complete(call, status, error=why)


def fail(draft: Draft, error: ServiceError) -> None:
    """End the running turn as failed, open calls included."""
    for call in draft.turn.open_calls:
        abandon(draft, call, v1.ToolResult.STATUS_CANCELLED, TURN_FAILED + error.wire_reason)
    draft.finish(v1.TURN_STATE_FAILED, error.to_error())


def close(draft: Draft, reason: str, actor: v1.Actor) -> None:
    """End the session: its turn, its queue, and the log."""
    stop_everything(draft, CLOSED)
    draft.add(v1.SessionEvent(session_closed=v1.SessionClosed(reason=reason)), actor=actor)


def fork(draft: Draft, forked: v1.SessionForked, actor: v1.Actor) -> None:
    """Begin a session as a copy; what ran where it was copied is cancelled."""
    draft.add(v1.SessionEvent(session_forked=forked), actor=actor)
    stop_everything(draft, FORKED)


def stop_everything(draft: Draft, why: str) -> None:
    """Drop the queue and cancel the running turn, waiting for nobody."""
    drop_queue(draft)
    if draft.state.turn is not None:
        for call in draft.turn.open_calls:
            abandon(draft, call, v1.ToolResult.STATUS_CANCELLED, why)
        draft.finish(v1.TURN_STATE_CANCELLED)


def due(draft: Draft) -> None:
    """Settle every deadline that has passed."""
    turn = draft.state.turn
    if turn is None:
        return
    if turn.parked is not None and draft.now_nanos >= turn.parked.deadline_nanos:
        seconds = draft.limits.park_seconds
        fail(draft, ModelUnavailable(f"no model was back within {seconds:g} s: {turn.parked.error.message}"))
        return
    if draft.now_nanos >= _turn_deadline(draft, turn):
        seconds = draft.limits.turn_seconds
        fail(draft, CallerError(v1.ERROR_REASON_TURN_TIMEOUT, f"the turn took longer than {seconds:g} s"))
        return
    for call in turn.open_calls:
        if call.phase is Phase.ASKED and expired(call, draft.now_nanos):
            _expire(draft, call)
        elif call.phase in (Phase.DISPATCHED, Phase.STARTED) and draft.now_nanos >= call.deadline_nanos:
            draft.complete(call, v1.ToolResult.STATUS_TIMED_OUT, error="no result came before the call's deadline")


def resume(draft: Draft) -> None:
    """Let a parked turn ask a model again, if it is time to."""
    turn = draft.state.turn
    if turn is None or turn.parked is None or turn.cancel_nanos or draft.now_nanos < turn.parked.retry_nanos:
        return
    resumed = v1.TurnResumed(parked=duration(draft.now_nanos - turn.parked.since_nanos))
    draft.add(v1.SessionEvent(turn_resumed=resumed), turn_id=turn.turn_id)


def expired(call: Call, now_nanos: int) -> bool:
    """Tell whether the time to decide on a call is over."""
    return call.approval is not None and 0 < _expiry(call.approval) <= now_nanos


def _expiry(approval: v1.Approval) -> int:
    """Return when an approval expires, 0 when it never does."""
    return approval.expire_time.seconds * _SECOND + approval.expire_time.nanos


def _expire(draft: Draft, call: Call) -> None:
    """Do what was to be done when nobody decides; only a low risk may be let through."""
    assert call.approval is not None, "only a call that was asked for expires"
    approve = call.approval.timeout_action == v1.APPROVAL_TIMEOUT_ACTION_APPROVE
    if approve and call.call.risk == v1.RISK_LEVEL_LOW:
        draft.resolve(call, v1.APPROVAL_STATE_APPROVED)
        return
    draft.resolve(call, v1.APPROVAL_STATE_EXPIRED)
    draft.complete(call, v1.ToolResult.STATUS_TIMED_OUT, error="nobody decided in time, so the call was not run")


def _turn_deadline(draft: Draft, turn: Turn) -> int:
    """Return when the turn times out; the clock stands while it waits for a human or a model."""
    if turn.waiting_nanos:
        return draft.now_nanos + 1
    return turn.started_nanos + turn.paused_nanos + int(draft.limits.turn_seconds * _SECOND)


def next_deadline(draft: Draft) -> int | None:
    """Return the nanoseconds at which `due` or `settle` has something to do, or None."""
    turn = draft.state.turn
    if turn is None:
        return None
    if turn.cancel_nanos:
        return turn.cancel_nanos + int(draft.limits.cancel_seconds * _SECOND)
    moments = [] if turn.waiting_nanos else [_turn_deadline(draft, turn)]
    if turn.parked is not None:
        moments.append(turn.parked.deadline_nanos)
    for call in turn.open_calls:
        if call.phase is Phase.ASKED and call.approval is not None and _expiry(call.approval):
            moments.append(_expiry(call.approval))
        elif call.phase in (Phase.DISPATCHED, Phase.STARTED):
            moments.append(call.deadline_nanos)
    return min(moments, default=None)


def drop_queue(draft: Draft) -> None:
    """End every turn that has not begun."""
    for queued in list[Queued](draft.state.queue):
        draft.drop(queued)
