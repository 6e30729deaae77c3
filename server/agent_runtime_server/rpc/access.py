"""Which role may do what: one table over all RPCs, and over the frames of a stream that need more than their stream."""

from collections.abc import Mapping
from typing import Final

from agent_runtime import v1
from agent_runtime_server.core.errors import CallerError
from agent_runtime_server.core.principal import Principal, Role

PACKAGE: Final = "agent_runtime.v1."

_USERS: Final = frozenset({Role.USER})
_REVIEWERS: Final = frozenset({Role.REVIEWER})
_OPERATORS: Final = frozenset({Role.OPERATOR})
_USERS_AND_OPERATORS: Final = _USERS | _OPERATORS
_ANYBODY: Final = frozenset(Role)

ACCESS: Final[Mapping[str, frozenset[Role]]] = {
    "ChatService.Chat": _USERS,
    "ChatService.SubmitFrame": _USERS,
    "ChatRequest.approval_decision": _REVIEWERS,
    "HitlService.Hitl": _REVIEWERS,
    "HitlService.GetApproval": _ANYBODY,
    "HitlService.ListApprovals": _ANYBODY,
    "HitlService.DecideApproval": _REVIEWERS,
    "SessionService.CreateSession": _USERS,
    "SessionService.GetSession": _ANYBODY,
    "SessionService.ListSessions": _ANYBODY,
    "SessionService.UpdateSession": _USERS_AND_OPERATORS,
    "SessionService.CloseSession": _USERS_AND_OPERATORS,
    "SessionService.ForkSession": _USERS,
    "SessionService.ListSessionEvents": _ANYBODY,
    "EventService.SubscribeEvents": _ANYBODY,
    "AgentService.GetAgent": _ANYBODY,
    "AgentService.ListAgents": _ANYBODY,
    "SystemService.GetServerStatus": _ANYBODY,
    "SystemService.GetUsage": _ANYBODY,
}
"""Roles any of which is enough; an admin may do everything. What is not in the table cannot be served."""


DECIDE: Final = "HitlService.DecideApproval"


def may(who: Principal, what: str) -> bool:
    """Tell whether the caller may do `what`, an entry of the table."""
    return who.is_one_of(ACCESS[what])


def require(who: Principal, what: str) -> None:
    """Raise PERMISSION_DENIED unless the caller may do `what`, an entry of the table."""
    if may(who, what):
        return
    roles = ACCESS[what]
    needed = " or ".join(sorted(roles | {Role.ADMIN}))
    held = ", ".join(sorted(who.roles)) or "none"
    raise CallerError(
        v1.ERROR_REASON_PERMISSION_DENIED,
        f"{what} needs the role {needed}; these credentials have {held}",
        metadata={"neededRoles": ",".join(sorted(roles))},
    )
