"""What the stores spend on the smallest things asked of them: a commit, an append in it, a wake-up, a flush."""

import asyncio
import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from redis.asyncio import Redis

from agent_runtime_server.stores.base import StoredEvent
from agent_runtime_server.stores.postgres.database import open_database
from agent_runtime_server.stores.postgres.migrations import migrate
from benchkit.processes import Meter
from enginekit.stores import Stores, event, opened

_SESSIONS: Final = 64
_ROUNDS: Final = 40
_EVENT_BYTES: Final = 300
_WAKE_UPS: Final = 40_000
_PIPELINE: Final = 16
_FLUSHES: Final = 200


async def commit_costs(url: str, pids: Sequence[int]) -> tuple[float, float]:
    """Return what Postgres spends on a transaction and on each append in it, in milliseconds.

    The same appends are committed one by one and all in one; the difference is that of the transactions.
    """
    async with open_database(url) as database:
        await migrate(database)
    async with opened(url) as stores:
        names = [f"cost-{number}" for number in range(_SESSIONS)]
        for name in names:
            await stores.new_session(name)
        heads = dict.fromkeys(names, 1)
        pids = [*pids, *_backends(pids)]
        single, whole = [], []
        for _ in range(_ROUNDS // 10):  # in turn, so that what else goes on meets both
            single.append(await _spent(stores, heads, pids, at_once=False, rounds=2))
            whole.append(await _spent(stores, heads, pids, at_once=True, rounds=10))
    one, many = statistics.median(single), statistics.median(whole)  # an append, with its share of a transaction
    commit = (one - many) / (1 - 1 / _SESSIONS)
    return commit, one - commit


def _backends(pids: Sequence[int]) -> list[int]:
    """Return the processes that serve the connections opened since, children of the first."""
    told = Path(f"/proc/{pids[0]}/task/{pids[0]}/children").read_text().split()
    return [pid for pid in map(int, told) if pid not in pids]


async def _spent(stores: Stores, heads: dict[str, int], pids: Sequence[int], *, at_once: bool, rounds: int) -> float:
    """Return the CPU time of an append, in milliseconds."""
    meter = Meter(pids)
    for _ in range(rounds):
        appends = [stores.append(name, head, events=_two(name, head)) for name, head in heads.items()]
        if at_once:
            await asyncio.gather(*appends)
        else:
            for append in appends:
                await append
        for name in heads:
            heads[name] += 2
    return meter.seconds * 1000 / (rounds * len(heads))


def _two(session_id: str, head: int) -> list[StoredEvent]:
    return [event(session_id, head + number, b"x" * _EVENT_BYTES) for number in (1, 2)]


async def wake_up_ms(url: str, pids: Sequence[int]) -> float:
    """Return what Redis spends on a message to one subscriber, sent as the service sends them, in milliseconds."""
    async with Redis.from_url(url) as client, client.pubsub() as pubsub:
        await pubsub.ssubscribe("cost")
        await pubsub.get_message(timeout=1)
        meter = Meter(pids)
        for _ in range(_WAKE_UPS // _PIPELINE):
            pipeline = client.pipeline(transaction=False)
            for _ in range(_PIPELINE):
                pipeline.execute_command("SPUBLISH", "cost", b"g 100")
            await pipeline.execute()
            for _ in range(_PIPELINE):
                await pubsub.get_message(timeout=1)
        return meter.seconds * 1000 / _WAKE_UPS


def flush_ms(folder: Path) -> float:
    """Return how long the disk takes for a page of Postgres's log, in milliseconds."""
    took = []
    with (folder / "flush").open("wb") as file:
        for _ in range(_FLUSHES):
            file.write(bytes(8192))
            file.flush()
            began = time.monotonic()
            os.fdatasync(file.fileno())
            took.append(time.monotonic() - began)
    return statistics.median(took) * 1000
