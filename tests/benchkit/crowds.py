"""What many open streams cost: memory for each, CPU time while they idle, and how flat both are."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict

from benchkit.cells import Figures
from benchkit.idle import Crowd
from benchkit.processes import KIT_PATH, Child, child, cpu_seconds, resident_bytes
from benchkit.systems import Stand

_CLIENTS = 2
_CALM_SECONDS = 5


async def crowd(here: Stand, streams: int, seconds: float, active: int = 0) -> Figures:
    """Open streams, a tenth of them first, and look on for a while."""
    async with AsyncExitStack() as stack:
        system, _ = await stack.enter_async_context(here.service("crowd"))
        empty = resident_bytes(system.pids)
        few = max(streams // 10, 1)
        groups = [await _join(stack, here, system.target, few, 0, 0)]
        await asyncio.sleep(_CALM_SECONDS)
        with_few = resident_bytes(system.pids)
        before, opening = cpu_seconds(system.pids), asyncio.get_running_loop().time()
        for number in range(_CLIENTS):
            share = (streams - few) // _CLIENTS
            groups.append(await _join(stack, here, system.target, share, active // _CLIENTS, number + 1))
        opened = sum([few, *[(streams - few) // _CLIENTS] * _CLIENTS])
        took, cost = asyncio.get_running_loop().time() - opening, cpu_seconds(system.pids) - before
        await asyncio.sleep(_CALM_SECONDS)
        with_all = resident_bytes(system.pids)
        idle = await _idle_share(system.pids, seconds)
        turns = sum([(await _told(client))["turns"] for client in groups])
    return {
        "streams": opened,
        "KB/stream": (with_all - empty) / opened / 1000,
        "KB/stream at a tenth": (with_few - empty) / few / 1000,
        "idle CPU %": idle * 100,
        "attached/s": (opened - few) / took,
        "attach CPU ms": cost * 1000 / (opened - few),
        "turns": turns,
        "resident MB": with_all / 1e6,
    }


async def _join(stack: AsyncExitStack, here: Stand, target: str, streams: int, active: int, seed: int) -> Child:
    client = await stack.enter_async_context(child("-m", "benchkit.idle", folder=here.folder, settings=KIT_PATH))
    await client.tell(json.dumps(asdict(Crowd(target, streams, active, seed))))
    await client.line(600)
    return client


async def _idle_share(pids: Sequence[int], seconds: float) -> float:
    before = cpu_seconds(pids)
    await asyncio.sleep(seconds)
    return (cpu_seconds(pids) - before) / seconds


async def _told(client: Child) -> dict[str, int]:
    await client.tell("")
    told: dict[str, int] = json.loads(await client.line())
    return told
