"""What many open streams cost: memory for each, CPU time while they idle, and how some of them fare that take turns."""

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict
from typing import Final

from benchkit.cells import Figures, percentile
from benchkit.idle import Bout, Crowd, Played
from benchkit.processes import KIT_PATH, Child, child, cpu_seconds, resident_bytes
from benchkit.systems import Stand

_CLIENTS: Final = 2
_CALM_SECONDS: Final = 5
_LEAD_SECONDS: Final = 0.5
_PACE_MS: Final = 20  # a token, as of a quick real model
_TOKENS: Final = 64
_BURSTS: Final = 4
_ACTIVE_SHARE: Final = 100  # one in so many streams is in a turn at any time
_BURST_SHARE: Final = 10  # one in so many takes a turn in a burst


async def crowd(here: Stand, streams: int, seconds: float, active_seconds: float = 0) -> Figures:
    """Open streams, a tenth of them first, look on for a while, and then let one in a hundred take turns.

    Memory is counted from a twentieth on, for the first streams find room in what a server has left of its start.
    """
    async with AsyncExitStack() as stack:
        system, _ = await stack.enter_async_context(here.service("crowd"))
        first = max(streams // 20, 1)
        each = (streams - 2 * first) // _CLIENTS
        opened = 2 * first + each * _CLIENTS
        resident = []
        for seed in (-1, -2):
            await _join(stack, here, system.target, first, seed)
            await asyncio.sleep(_CALM_SECONDS)
            resident.append(resident_bytes(system.pids))
        before, opening = cpu_seconds(system.pids), time.monotonic()
        clients = [await _join(stack, here, system.target, each, number + 1) for number in range(_CLIENTS)]
        took, cost = time.monotonic() - opening, cpu_seconds(system.pids) - before
        await asyncio.sleep(_CALM_SECONDS)
        resident.append(resident_bytes(system.pids))
        idle = await share(system.pids, seconds)
        found = {
            "streams": opened,
            "KB/stream": (resident[2] - resident[0]) / (opened - first) / 1000,
            "KB/stream at a tenth": (resident[1] - resident[0]) / first / 1000,
            "idle CPU %": idle * 100,
            "attached/s": each * _CLIENTS / took,
            "attach CPU ms": cost * 1000 / (each * _CLIENTS),
            "resident MB": resident[2] / 1e6,
        }
        return found | (await _played(here, system.pids, clients, opened, active_seconds) if active_seconds else {})


async def _join(stack: AsyncExitStack, here: Stand, target: str, streams: int, seed: int) -> Child:
    client = await stack.enter_async_context(child("-m", "benchkit.idle", folder=here.folder, settings=KIT_PATH))
    await client.tell(json.dumps(asdict(Crowd(target, streams, seed))))
    await client.ready("ready", 600)
    return client


async def share(pids: Sequence[int], seconds: float) -> float:
    """Return how much of a core processes use for a while."""
    before = cpu_seconds(pids)
    await asyncio.sleep(seconds)
    return (cpu_seconds(pids) - before) / seconds


async def _played(
    here: Stand, pids: Sequence[int], clients: Sequence[Child], streams: int, seconds: float
) -> dict[str, float]:
    """Let one in a hundred be in a turn at any time, for a while; then also let one in ten take a turn in bursts."""
    active = max(streams // _ACTIVE_SHARE, _CLIENTS)
    burst = max(streams // _BURST_SHARE // _BURSTS, _CLIENTS)
    before = cpu_seconds(pids)
    calm = await _bout(here, clients, seconds, active)
    busy = (cpu_seconds(pids) - before) / seconds
    stormy = await _bout(here, clients, seconds, active, burst)
    errors = [*calm.errors, *stormy.errors]
    if errors:
        sys.stderr.write(f"{len(errors)} turns of the crowd failed, the first with {errors[0]}\n")
    ideal = _PACE_MS * _TOKENS
    return {
        "in a turn at any time": active,
        "turns of them": len(calm.active),
        "their CPU %": busy * 100,
        "their turn p50 ms over the model's own": percentile(calm.active, 50) - ideal,
        "their turn p99 ms over the model's own": percentile(calm.active, 99) - ideal,
        "turns in bursts": len(stormy.burst),
        "at once": burst,
        "burst turn p50 ms over the model's own": percentile(stormy.burst, 50) - ideal,
        "burst turn p99 ms over the model's own": percentile(stormy.burst, 99) - ideal,
        "failed turns": len(errors),
        "resident MB after turns": resident_bytes(pids) / 1e6,
    }


async def _bout(here: Stand, clients: Sequence[Child], seconds: float, active: int, burst: int = 0) -> Played:
    """Let the clients share in turns and return what all of them saw."""
    begin, whole = time.monotonic() + _LEAD_SECONDS, Played()
    text = f"delay={_PACE_MS} tokens={_TOKENS}"
    answers = [here.folder / f"played-{number}.json" for number, _ in enumerate(clients)]
    for client, answer in zip(clients, answers, strict=True):
        bout = Bout(
            str(answer), begin, seconds, text, active // len(clients), _BURSTS if burst else 0, burst // len(clients)
        )
        await client.tell(json.dumps(asdict(bout)))
    for client, answer in zip(clients, answers, strict=True):
        await client.ready("done", seconds + 120)
        seen = Played(**json.loads(answer.read_text()))
        whole.active += seen.active
        whole.burst += seen.burst
        whole.errors += seen.errors
    return whole
