"""Who calls. On loopback without credentials everybody is the one local user."""

from dataclasses import dataclass

from agent_runtime import v1
from agent_runtime_server.rpc.service import Call


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller and the tenant whose sessions are theirs to see."""

    tenant: str
    subject: str
    display_name: str

    def actor(self, kind: "v1.ActorKind.ValueType") -> v1.Actor:
        """Return the caller as the one who does something."""
        return v1.Actor(kind=kind, subject=self.subject, display_name=self.display_name)


LOCAL = Principal("local", "local", "local user")
"""The caller without credentials."""


def principal(call: Call) -> Principal:
    """Return who makes this call."""
    return call.principal if isinstance(call.principal, Principal) else LOCAL
