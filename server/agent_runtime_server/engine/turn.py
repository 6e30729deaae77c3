"""The state of a session, folded from its events, and what is to be done next.

Rule 1: every change of state is an event, and everything that changes state lives in this file.
Rule 2: nothing here knows a clock, a store, a model or a task; the same log always folds to the same state.

A call goes   PROPOSED -> (ASKED ->) READY -> DISPATCHED -> (STARTED ->) DONE   and may be DONE from anywhere; READY
waits for the calls it depends on. Server tools never leave PROPOSED before they are DONE. A turn is finished only when
all of its calls are DONE, so every transcript has one result for each call.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from agent_runtime import v1
from agent_runtime_server.core.clock import to_nanos
from agent_runtime_server.core.transcript import Answered, Called, HandedOff, Said, conclude
from agent_runtime_server.engine.limits import of_turn
from agent_runtime_server.engine.state import Call, Parked, Phase, Queued, State, Turn

FOLD_VERSION: Final = 6
"""Grows when the fold reads events differently or the state changes its shape, so that older snapshots are refolded.

Where the log before a snapshot is gone, an older one is read all the same: give new fields a default.
"""

EXTEND: Final = "extend"
STOP: Final = "stop"
"""Options of the question whether to go on when a budget is partly used."""

_MOST_FINISHED: Final = 200  # turns remembered by their id, so that what comes late is answered well
_MOST_CALLS: Final = 2000  # likewise


@dataclass(frozen=True, slots=True)
class Route:
    """Choose the agent that answers."""

    turn_id: str


@dataclass(frozen=True, slots=True)
class TakeStep:
    """Let the session's agent answer once; `number` counts the answers of the turn from 0."""

    turn_id: str
    number: int
    attempt: int


Effect = Route | TakeStep


def next_effect(state: State) -> Effect | None:
    """Return what a runner has to do now, or None while it is for others to act."""
    turn = state.turn
    if turn is None or turn.cancel_nanos or turn.question or turn.parked or turn.open_calls:
        return None
    if not turn.routed:
        return Route(turn.turn_id)
    return TakeStep(turn.turn_id, turn.steps, turn.attempt)


def apply(state: State, event: v1.SessionEvent) -> None:
    """Fold one event into the state."""
    kind = event.WhichOneof("payload")
    state.head_seq = event.seq
    state.last_nanos = to_nanos(event.create_time)
    fold = _FOLDS.get(kind or "")
    if fold is not None:
        fold(state, event)
    if state.turn is not None:
        _clock_waiting(state.turn, state.last_nanos)


def _clock_waiting(turn: Turn, nanos: int) -> None:
    """Keep the time spent waiting for a human or a model out of the turn's own."""
    waiting = turn.state in _WAITING
    if waiting and not turn.waiting_nanos:
        turn.waiting_nanos = nanos
    elif not waiting and turn.waiting_nanos:
        turn.paused_nanos += nanos - turn.waiting_nanos
        turn.waiting_nanos = 0


_WAITING: Final = (v1.TURN_STATE_WAITING_FOR_APPROVAL, v1.TURN_STATE_WAITING_FOR_USER, v1.TURN_STATE_PARKED)


def _session_created(state: State, event: v1.SessionEvent) -> None:
    state.session_id = event.session_id
    state.agent_id = event.session_created.agent_id
    state.agent_revision = event.session_created.agent_revision


def _user_message(state: State, event: v1.SessionEvent) -> None:
    turn = state.turn
    if turn is None or turn.turn_id != event.turn_id:
        _enqueue(state, Queued(event.turn_id, event.seq, state.last_nanos, event.user_message, event.actor.subject))
        return
    turn.bytes += event.user_message.ByteSize()
    if turn.question is None:
        turn.steering.append((event.seq, event.user_message))
    else:  # the answer; that of a call becomes its result
        if turn.question.HasField("budget"):
            _grant(state, turn, turn.question.budget, event.user_message)
        elif not turn.question.call_id:
            state.transcript.append(Said(event.user_message))
        turn.question = None


def _grant(state: State, turn: Turn, asked: v1.BudgetUse, answer: v1.UserMessage) -> None:
    """Note that the user wants to go on, unless they do not; models hear only what they say instead of choosing."""
    if STOP not in answer.option_ids:
        granted = turn.granted if asked.budget.startswith("turn.") else state.granted
        granted[asked.budget] = asked.used
    if not answer.option_ids:
        state.transcript.append(Said(answer))


def _enqueue(state: State, queued: Queued) -> None:
    if queued.message.delivery == v1.MESSAGE_DELIVERY_INTERRUPT:
        state.queue.insert(0, queued)
    else:
        state.queue.append(queued)


def _steering_seen(state: State, _event: v1.SessionEvent) -> None:
    if state.turn is not None:
        _hear_steering(state, state.turn)


def _hear_steering(state: State, turn: Turn) -> None:
    state.transcript += [Said(message) for _, message in turn.steering]
    turn.steering = []


def _turn_started(state: State, event: v1.SessionEvent) -> None:
    queued = state.queue.pop(0)
    state.turn = Turn(queued.turn_id, queued.seq, queued.nanos, state.last_nanos, queued.message)
    state.turn.limits = of_turn(event.turn_started)
    state.turn.subject = queued.subject
    state.turn.bytes = queued.message.ByteSize()
    state.transcript.append(Said(queued.message))


def _turn_recovered(state: State, event: v1.SessionEvent) -> None:
    if state.turn is not None:
        state.turn.attempt = event.turn_recovered.attempt
        state.turn.broken += event.turn_recovered.cause == v1.TurnRecovered.CAUSE_MODEL_RETRY


def _turn_parked(state: State, event: v1.SessionEvent) -> None:
    parked = event.turn_parked
    if state.turn is not None:
        retry, deadline = to_nanos(parked.retry_time), to_nanos(parked.deadline)
        state.turn.parked = Parked(state.last_nanos, retry, deadline, parked.error)
        state.turn.parks += 1


def _turn_resumed(state: State, _event: v1.SessionEvent) -> None:
    if state.turn is not None and state.turn.parked is not None:
        state.turn.parked_nanos += state.last_nanos - state.turn.parked.since_nanos
        state.turn.parked = None


def _routing_decided(state: State, event: v1.SessionEvent) -> None:
    state.agent_id = event.routing_decided.agent_id
    if state.turn is not None:
        state.turn.routed = True
        add_usage(state.turn.usage, event.routing_decided.usage)


def _assistant_message(state: State, event: v1.SessionEvent) -> None:
    message = event.assistant_message
    state.transcript.append(Answered(message))
    if state.turn is not None:
        state.turn.bytes += message.ByteSize()
        add_usage(state.turn.usage, message.usage)
        if message.step_id:  # a model step; the text of attempt_completion is none
            state.turn.steps += 1
            state.turn.last_usage = message.usage
            state.turn.parks = state.turn.broken = 0
            state.turn.calls = {}


def _tool_call_proposed(state: State, event: v1.SessionEvent) -> None:
    call = event.tool_call_proposed.tool_call
    called = Called(call)
    state.calls[call.call_id] = event.turn_id
    answer = state.transcript[-1]
    assert isinstance(answer, Answered), "proposals stand behind the answer that made them"
    answer.calls.append(called)
    if state.turn is not None:
        state.turn.tool_calls += 1
        state.turn.bytes += call.ByteSize()
        state.turn.calls[call.call_id] = Call(called)
        if not state.turn.calls[call.call_id].on_server:
            state.turn.calls[call.call_id].phase = Phase.READY


def _approval_requested(state: State, event: v1.SessionEvent) -> None:
    approval = event.approval_requested.approval
    call = _open_call(state, approval.tool_call.call_id)
    call.phase = Phase.ASKED
    call.approval = approval


def _approval_resolved(state: State, event: v1.SessionEvent) -> None:
    approval = event.approval_resolved.approval
    call = _open_call(state, approval.tool_call.call_id)
    call.phase = Phase.READY
    call.approval = approval
    if state.turn is not None:
        state.turn.bytes += approval.tool_call.ByteSize() - call.call.ByteSize()  # which a human may have edited
    call.called.call = approval.tool_call


def _tool_call_dispatched(state: State, event: v1.SessionEvent) -> None:
    dispatched = event.tool_call_dispatched
    call = _open_call(state, dispatched.tool_call.call_id)
    call.phase = Phase.DISPATCHED
    call.deadline_nanos = to_nanos(dispatched.deadline)


def _tool_call_started(state: State, event: v1.SessionEvent) -> None:
    call = _open_call(state, event.tool_call_started.call_id)
    call.phase = Phase.STARTED
    call.client_id = event.tool_call_started.client_id


def _tool_call_completed(state: State, event: v1.SessionEvent) -> None:
    call = _open_call(state, event.tool_call_completed.result.call_id)
    call.phase = Phase.DONE
    call.called.result = event.tool_call_completed.result
    if state.turn is not None:
        state.turn.bytes += call.called.result.ByteSize()


def _agent_handoff(state: State, event: v1.SessionEvent) -> None:
    state.agent_id = event.agent_handoff.to_agent_id
    if state.turn is not None and state.turn.routed:  # the router's own choice is no handoff to tell the model of
        state.turn.handoffs += 1
        state.turn.bytes += event.agent_handoff.ByteSize()
        state.transcript.append(HandedOff(event.agent_handoff))


def _question_asked(state: State, event: v1.SessionEvent) -> None:
    if state.turn is not None:
        state.turn.question = event.question_asked.question


def _turn_cancel_requested(state: State, event: v1.SessionEvent) -> None:
    if state.turn is not None and state.turn.turn_id == event.turn_id and not state.turn.cancel_nanos:
        state.turn.cancel_nanos = state.last_nanos
        state.turn.question = None


def _turn_finished(state: State, event: v1.SessionEvent) -> None:
    state.finished.append(event.turn_id)
    if len(state.finished) > _MOST_FINISHED:
        state.finished.pop(0)
    turn = state.turn
    if turn is None or turn.turn_id != event.turn_id:  # dropped from the queue
        state.queue = [queued for queued in state.queue if queued.turn_id != event.turn_id]
        return
    state.last_turn = v1.Turn(
        turn_id=turn.turn_id, state=event.turn_finished.state, attempt=turn.attempt, first_seq=turn.first_seq
    )
    add_usage(state.usage, turn.usage)
    state.tool_calls += turn.tool_calls
    state.worked_nanos += turn.worked_nanos(state.last_nanos)
    _hear_steering(state, turn)  # what no step saw is said all the same
    state.turn = None
    conclude(state.transcript, state.told)
    while len(state.calls) > _MOST_CALLS:
        del state.calls[next(iter(state.calls))]


def _executor_changed(state: State, event: v1.SessionEvent) -> None:
    state.executor = event.executor_changed.client_id
    state.executor_epoch = event.executor_changed.epoch


def _tools_updated(state: State, event: v1.SessionEvent) -> None:
    state.tools = tuple(event.tools_updated.tools)
    state.tools_bytes = event.tools_updated.ByteSize()


def _session_closed(state: State, _event: v1.SessionEvent) -> None:
    state.closed = True


def _open_call(state: State, call_id: str) -> Call:
    assert state.turn is not None, "calls live in a running turn"
    return state.turn.calls[call_id]


def add_usage(total: v1.Usage, more: v1.Usage) -> None:
    """Add to a usage what another one says."""
    for field, number in more.ListFields():  # all of them are numbers
        setattr(total, field.name, getattr(total, field.name) + number)


_FOLDS: Mapping[str, Callable[[State, v1.SessionEvent], None]] = {
    "session_created": _session_created,
    "user_message": _user_message,
    "turn_started": _turn_started,
    "turn_recovered": _turn_recovered,
    "turn_parked": _turn_parked,
    "turn_resumed": _turn_resumed,
    "routing_decided": _routing_decided,
    "assistant_message": _assistant_message,
    "tool_call_proposed": _tool_call_proposed,
    "approval_requested": _approval_requested,
    "approval_resolved": _approval_resolved,
    "tool_call_dispatched": _tool_call_dispatched,
    "tool_call_started": _tool_call_started,
    "tool_call_completed": _tool_call_completed,
    "agent_handoff": _agent_handoff,
    "question_asked": _question_asked,
    "steering_seen": _steering_seen,
    "turn_cancel_requested": _turn_cancel_requested,
    "turn_finished": _turn_finished,
    "executor_changed": _executor_changed,
    "tools_updated": _tools_updated,
    "session_closed": _session_closed,
}
