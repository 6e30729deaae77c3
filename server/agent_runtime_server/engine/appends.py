"""A decided draft as the store takes it."""

from collections.abc import Sequence
from datetime import UTC, datetime

from agent_runtime import v1
from agent_runtime_server.engine.draft import Draft
from agent_runtime_server.engine.settle import next_deadline
from agent_runtime_server.engine.summary import summary
from agent_runtime_server.engine.turn import next_effect
from agent_runtime_server.stores.base import Append, ApprovalRow, ApprovalStore, Frame, LeaseAction, StoredEvent

_APPROVAL_KINDS = (
    v1.SessionEvent.APPROVAL_REQUESTED_FIELD_NUMBER,
    v1.SessionEvent.APPROVAL_RESOLVED_FIELD_NUMBER,
)


def as_append(
    draft: Draft,
    approvals: Sequence[ApprovalRow],
    frame: Frame | None,
    epoch: int | None,
    *,
    leased: bool,
    leaving: bool = False,
) -> Append:
    """Return the append of a draft: does this replica hold the session's lease, and does it leave steps to others?"""
    events = [stored(event) for event in draft.events]
    runnable = next_effect(draft.state) is not None
    return Append(
        session_id=draft.state.session_id,
        head=draft.state.head_seq - len(events),
        epoch=epoch,
        events=events,
        summary=summary(draft.state),
        runnable=runnable,
        next_deadline=_moment(next_deadline(draft)),
        lease=_leave(epoch) if runnable and leaving else _lease_action(runnable=runnable, leased=leased),
        frame=frame,
        frame_seq=draft.frame_seq,
        approvals=approvals,
    )


def _lease_action(*, runnable: bool, leased: bool) -> LeaseAction:
    if not runnable:
        return LeaseAction.RELEASE
    return LeaseAction.KEEP if leased else LeaseAction.ACQUIRE


def _leave(epoch: int | None) -> LeaseAction:
    """End a lease with its runner's step, so that others take the next; any other commit leaves it to its owner."""
    return LeaseAction.KEEP if epoch is None else LeaseAction.RELEASE


async def approval_rows(store: ApprovalStore, tenant: str, draft: Draft) -> list[ApprovalRow]:
    """Return the rows of the draft's approvals; a claim may have moved the revision beyond the log's."""
    changed = [_approval(event) for event in draft.events if kind(event) in _APPROVAL_KINDS]
    resolved = [approval.approval_id for approval in changed if approval.revision > 1]
    rows = await store.revisions(tenant, resolved) if resolved else {}
    made = []
    for approval in changed:
        row = rows.get(approval.approval_id)
        before = row.revision if row is not None else approval.revision - 1
        approval.revision = before + 1
        made.append(ApprovalRow(before, draft.state.agent_id, approval))
    return made


def stored(event: v1.SessionEvent) -> StoredEvent:
    """Return an event as it is stored and sent."""
    return StoredEvent(event.seq, kind(event), event.SerializeToString())


def kind(event: v1.SessionEvent) -> int:
    """Return the field number of an event's payload, 0 for an unknown one."""
    name = event.WhichOneof("payload")
    return v1.SessionEvent.DESCRIPTOR.fields_by_name[name].number if name else 0


def _approval(event: v1.SessionEvent) -> v1.Approval:
    payload = event.approval_requested if event.HasField("approval_requested") else event.approval_resolved
    return payload.approval


def _moment(nanos: int | None) -> datetime | None:
    return None if nanos is None else datetime.fromtimestamp(nanos / 1_000_000_000, UTC)
