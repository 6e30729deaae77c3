"""Ask a real server for more than it can do, and one tenant for more than its share; 1 when a demand is not met."""

import argparse
import asyncio
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

from overloadkit import demands
from overloadkit.client import Job
from overloadkit.demands import Demand, Load
from overloadkit.figures import HEADER, Figures
from overloadkit.stand import Stand, stand
from servicekit.keys import keys_of

Tell = Callable[[str], None]

_DELAY_MS: Final = 100
_CLIENTS: Final = 2
_OVERLOAD: Final = 5  # times the capacity
_UNLOADED: Final = 0.2
_TENANTS: Final = 10  # besides the noisy one
_NOISE: Final = 50  # times what each of them sends


@dataclass(frozen=True, slots=True)
class Seconds:
    """How long the phases last."""

    warm: float = 10
    calm: float = 30
    overload: float = 120
    fairness: float = 90  # alone, and as long crowded, in turn
    settle: float = 6  # until what was begun in the phase before is over


_QUICK: Final = Seconds(5, 15, 20, 30)
_SLICES: Final = 3  # of either, so that what else happens on the machine befalls both


async def overload(seconds: Seconds, load: Load, tell: Tell) -> list[Demand]:
    """Ask for five times the capacity for a while, and see how it is before and after."""
    low, high = load.capacity * _UNLOADED, load.capacity * _OVERLOAD
    tokens = round(load.answer_seconds * 1000 / _DELAY_MS)
    settings = {"AGENT_RUNTIME_MAX_RUNNING_TURNS": str(load.turns)}
    async with AsyncExitStack() as stack:
        here = await stack.enter_async_context(stand(settings))
        for seed in range(_CLIENTS):
            job = Job(here.server.target, [""], 4 * load.turns // _CLIENTS, (tokens, tokens), _DELAY_MS, seed)
            await here.add(stack, job)
        plan = (
            *(("warm-up", low, seconds.warm), ("unloaded", low, seconds.calm)),
            *(("overload", high, seconds.overload), ("afterwards", low, seconds.calm)),
        )
        for name, rate, lasts in plan:
            await here.phase(name, lasts, [rate / _CLIENTS] * _CLIENTS)
        seen = await here.seen()
    found = {name: Figures.of(seen, name) for name, _, _ in plan}
    tell(HEADER)
    for name, rate, _ in plan[1:]:
        tell(found[name].row(name, rate, here.weights[name]))
    before, after = found["unloaded"], found["afterwards"]
    return [
        *demands.sound(seen),
        *demands.overload(load, before, found["overload"], here.weights["overload"]),
        *demands.recovery(load, before, after, here.weights["afterwards"]),
    ]


async def fairness(seconds: Seconds, load: Load, tell: Tell) -> list[Demand]:
    """Let some tenants talk alone, then beside one that sends fifty times as much as each of them."""
    settings = {
        "AGENT_RUNTIME_AUTH_MODE": "required",
        "AGENT_RUNTIME_LLM_CONCURRENT_CALLS": str(load.turns),
        "AGENT_RUNTIME_MAX_RUNNING_TURNS": str(2 * load.turns),
    }
    each = 2 * load.capacity / _NOISE
    others, noise = each * _TENANTS, each * _NOISE
    async with AsyncExitStack() as stack:
        here = await stack.enter_async_context(stand(settings))
        await _add_tenants(stack, here, load)
        for _ in range(_SLICES):
            await here.phase("settling", seconds.settle, [others, 0])
            await here.phase("alone", seconds.fairness / _SLICES, [others, 0])
            await here.phase("crowded", seconds.fairness / _SLICES, [others, noise])
        quiet, noisy = await here.seen()
    alone, crowded = Figures.of([quiet], "alone"), Figures.of([quiet], "crowded")
    tell(HEADER)
    tell(alone.row("others, alone", others, here.weights["alone"]))
    tell(crowded.row("others, crowded", others, here.weights["crowded"]))
    tell(Figures.of([noisy], "crowded").row("noisy one", noise, here.weights["crowded"]))
    return [*demands.sound([quiet, noisy]), *demands.fairness(alone, crowded)]


async def _add_tenants(stack: AsyncExitStack, here: Stand, load: Load) -> None:
    """Add a client for the tenants that send little, and one for the noisy one."""
    ideal = round(load.answer_seconds * 1000 / _DELAY_MS)
    tokens = (ideal - ideal // 4, ideal + ideal // 4)
    async with keys_of(here.server) as ring:
        quiet = [await ring.new(f"tenant-{number}", "user") for number in range(_TENANTS)]
        noisy = await ring.new("noisy", "user")
    for seed, keys, streams in ((0, quiet, 10 * _TENANTS), (1, [noisy], 4 * load.turns)):
        await here.add(stack, Job(here.server.target, keys, streams, tokens, _DELAY_MS, seed))


async def play(options: argparse.Namespace) -> list[Demand]:
    """Play what was asked for and return what was demanded of it."""
    seconds = _QUICK if options.quick else Seconds()
    found: list[Demand] = []
    if options.only != "fairness":
        print(f"Overload: {options.turns} turns at a time, asked for {_OVERLOAD} times what they can be\n")
        found += await overload(seconds, Load(options.turns, 1.0), print)
    if options.only != "overload":
        print(f"\nFairness: {options.turns} calls at a time, one tenant sends {_NOISE} times what each other sends\n")
        found += await fairness(seconds, Load(options.turns, 2.0), print)
    return found


def main() -> int:
    """Read the arguments, play, and say what is not as it should be."""
    parser = argparse.ArgumentParser(prog="overload", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="20 s of overload instead of 2 min, and shorter phases")
    parser.add_argument("--only", choices=["overload", "fairness"], help="play one of the two")
    parser.add_argument("--turns", type=int, default=50, help="turns, or calls of models, at a time (50)")
    found = asyncio.run(play(parser.parse_args()))
    print("\n" + "\n".join(map(str, found)))
    return 0 if all(demand.holds for demand in found) else 1


if __name__ == "__main__":
    sys.exit(main())
