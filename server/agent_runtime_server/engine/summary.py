"""A session as clients see it, drawn from its state."""

from agent_runtime import v1
from agent_runtime_server.engine.state import State


def summary(state: State) -> v1.Session:
    """Return the session as clients see it, as far as its log tells."""
    session = v1.Session(
        session_id=state.session_id,
        state=v1.SESSION_STATE_IDLE,
        agent_id=state.agent_id,
        agent_revision=state.agent_revision,
        head_seq=state.head_seq,
        executor_client_id=state.executor,
        usage=state.usage,
    )
    session.usage.tool_calls = state.tool_calls
    session.usage.worked_millis = state.worked_nanos // 1_000_000
    turn = state.turn
    if state.closed:
        session.state = v1.SESSION_STATE_CLOSED
    elif turn is not None or state.queue:
        session.state = v1.SESSION_STATE_ACTIVE
    if turn is None:
        if state.last_turn is not None:
            session.current_turn.CopyFrom(state.last_turn)
        return session
    current = session.current_turn
    current.turn_id, current.state = turn.turn_id, turn.state
    current.attempt, current.first_seq = turn.attempt, turn.first_seq
    for call in turn.open_calls:
        if call.deadline_nanos:
            current.pending_call_ids.append(call.call.call_id)
        elif call.approval is not None and call.approval.state == v1.APPROVAL_STATE_PENDING:
            current.pending_approval_ids.append(call.approval.approval_id)
    if turn.question is not None:
        current.open_question.CopyFrom(turn.question)
    return session
