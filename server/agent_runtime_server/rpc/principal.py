"""Who makes a call."""

from agent_runtime_server.core.principal import LOCAL, Principal
from agent_runtime_server.rpc.service import Call

__all__ = ["LOCAL", "Principal", "principal"]


def principal(call: Call) -> Principal:
    """Return who makes this call."""
    return call.principal
