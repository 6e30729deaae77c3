"""How much of everything so many sessions need: plain arithmetic on the measured costs."""

from dataclasses import dataclass
from math import ceil
from typing import Final

from scalekit.costs import APPENDS_A_TURN, Costs

ROOM: Final = 0.6
"""Share of a core or a database that is planned for; the rest is for bursts and for a replica that is away."""


@dataclass(frozen=True, slots=True)
class Demand:
    """Live sessions and what they do."""

    sessions: int
    turns_an_hour: float  # of one session
    tools_a_turn: float = 3.0


@dataclass(frozen=True, slots=True)
class Need:
    """What that takes."""

    turns_a_second: float
    workers: int  # of a core each
    bound_by: str  # what decides the number of workers: cpu or memory
    memory_gb: float
    commits_a_second: float  # appends, before they are grouped
    shards: int
    disk_mb_a_second: float


def needed(costs: Costs, demand: Demand, *, shard_cores: int = 8, worker_gb: float = 4.0, batch: float = 4.0) -> Need:
    """Return what a demand needs, when a transaction takes `batch` appends and a worker has `worker_gb`."""
    rate = demand.sessions * demand.turns_an_hour / 3600
    server_ms = costs.server_ms_a_turn + demand.tools_a_turn * costs.server_ms_a_tool
    idle_ms = demand.sessions * costs.server_ms_a_stream_minute / 60
    by_cpu = (rate * server_ms + idle_ms) / (1000 * ROOM)
    memory_gb = demand.sessions * costs.stream_kb / 1e6
    by_memory = memory_gb / (worker_gb * ROOM - costs.worker_mb / 1000)
    workers = max(1, ceil(max(by_cpu, by_memory)))
    appends = rate * (APPENDS_A_TURN + demand.tools_a_turn * 3)  # dispatched, started, completed
    postgres_ms = appends * (costs.postgres_ms_an_append + costs.postgres_ms_a_commit / batch)
    share = (APPENDS_A_TURN + demand.tools_a_turn * 3) / APPENDS_A_TURN
    return Need(
        turns_a_second=rate,
        workers=workers,
        bound_by="cpu" if by_cpu >= by_memory else "memory",
        memory_gb=memory_gb + workers * costs.worker_mb / 1000,
        commits_a_second=appends,
        shards=max(1, ceil(postgres_ms / (1000 * shard_cores * ROOM))),
        disk_mb_a_second=rate * costs.postgres_kb_a_turn * share / 1000,
    )
