"""Whether a caller would approve what was done for themselves."""

from agent_runtime import v1
from agent_runtime_server.core.errors import CallerError
from agent_runtime_server.core.principal import Principal
from agent_runtime_server.engine.services import Services


async def refuse_own(services: Services, who: Principal, approval_id: str) -> None:
    """Raise SELF_APPROVAL_FORBIDDEN when the session or the turn is the caller's own."""
    listed = await services.approvals.get(who.tenant, approval_id)
    if listed is not None and who.subject in await _askers(services, who.tenant, listed.approval):
        message = "the session or the turn is yours, so somebody else has to approve its calls; you may reject them"
        raise CallerError(v1.ERROR_REASON_SELF_APPROVAL_FORBIDDEN, message)


async def _askers(services: Services, tenant: str, approval: v1.Approval) -> set[str]:
    """Return whose session it is, and who gave the turn its task."""
    row = await services.log.row(tenant, approval.session_id)
    if row is None:
        return set()
    askers = {row.session.owner.subject}
    turn = row.session.current_turn
    if turn.turn_id == approval.turn_id and turn.first_seq:
        for event in await services.log.events(tenant, approval.session_id, turn.first_seq - 1, 1):
            askers.add(v1.SessionEvent.FromString(event.payload).actor.subject)
    return askers
