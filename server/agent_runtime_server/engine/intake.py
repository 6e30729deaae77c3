"""The way of a durable client frame into the log: dedup, decide, commit."""

from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any, Final

from google.protobuf.message import Message

from agent_runtime import v1
from agent_runtime_server.core.errors import CallerError
from agent_runtime_server.engine import frames
from agent_runtime_server.engine.draft import Draft
from agent_runtime_server.engine.session import Committed, Session
from agent_runtime_server.stores.base import ApprovalStore, Frame

_DECISIONS: Final[Mapping[str, Callable[[Draft, frames.Sender, Any], None]]] = {
    "user_message": frames.user_message,
    "tool_call_started": frames.tool_call_started,
    "tool_result": frames.tool_result,
    "cancel_turn": frames.cancel_turn,
    "switch_agent": frames.switch_agent,
    "update_tools": frames.update_tools,
}

DURABLE: Final = frozenset({*_DECISIONS, "approval_decision"})
"""Names of the client frames that are committed."""


async def submit(
    session: Session, approvals: ApprovalStore, sender: frames.Sender, request: v1.ChatRequest
) -> Committed:
    """Commit one durable frame of a chat; raises what it is refused with."""
    kind = request.WhichOneof("frame")
    frame = Frame(session.session_id, request.frame_id, digest(request))
    if kind == "approval_decision":
        return await decide(session, approvals, sender, request.approval_decision, frame)
    assert kind is not None, "the caller lets durable frames through only"
    decision, payload = _DECISIONS[kind], getattr(request, kind)
    return await session.commit(lambda draft: decision(draft, sender, payload), frame=frame)


async def decide(
    session: Session,
    approvals: ApprovalStore,
    sender: frames.Sender,
    decision: v1.ApprovalDecision,
    frame: Frame,
) -> Committed:
    """Commit a decision on an approval of this session."""
    listed = await approvals.get(session.tenant, decision.approval_id)
    if listed is None or listed.approval.session_id != session.session_id:
        raise approval_not_found(decision.approval_id)
    row = listed.approval
    try:
        return await session.commit(lambda draft: frames.approval_decision(draft, sender, decision, row), frame=frame)
    except CallerError as refusal:
        late = refusal.reason == v1.ERROR_REASON_APPROVAL_ALREADY_RESOLVED and row.state == v1.APPROVAL_STATE_PENDING
        now = await approvals.get(session.tenant, decision.approval_id) if late else None
        if now is None or now.approval.state == v1.APPROVAL_STATE_PENDING:
            raise
        raise frames.resolved(now.approval, now.approval.state) from refusal  # somebody was quicker by a moment


def approval_not_found(approval_id: str) -> CallerError:
    """Return the error of an approval that is not there, or not for the caller to see."""
    return CallerError(v1.ERROR_REASON_APPROVAL_NOT_FOUND, f"there is no approval {approval_id}")


def digest(message: Message) -> bytes:
    """Return what tells two payloads under one idempotency key apart."""
    return sha256(message.SerializeToString(deterministic=True)).digest()
