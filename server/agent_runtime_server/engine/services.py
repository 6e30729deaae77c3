"""What the sessions of a replica have in common."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from agent_runtime import v1
from agent_runtime_server.agents.registry import Registry
from agent_runtime_server.core.clock import Clock
from agent_runtime_server.core.ids import IdFactory
from agent_runtime_server.engine.limits import Limits
from agent_runtime_server.engine.relay import Alone
from agent_runtime_server.stores.base import ApprovalStore, Bus, EventLog, StoredEvent
from agent_runtime_server.stores.shared import Spender


def _unaccounted(_spender: Spender, _usage: v1.Usage) -> None:
    """Let nobody account for work."""


@dataclass(frozen=True, slots=True)
class Services:
    """What every session needs."""

    log: EventLog
    approvals: ApprovalStore
    agents: Registry
    limits: Limits
    clock: Clock
    new_id: IdFactory
    committed: Callable[[Sequence[StoredEvent]], None]  # told of every commit of this replica
    worked: Callable[[Spender, v1.Usage], None] = _unaccounted  # and of what it has added to somebody's work
    bus: Bus = field(default_factory=Alone)
    leaving: asyncio.Event = field(default_factory=asyncio.Event)  # set when this replica takes on no more steps
