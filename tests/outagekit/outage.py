"""One store is killed and comes back: what the clients saw of it."""

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from killkit.stores import MortalStore
from outagekit.world import Size, World, world

_WHOLE_SECONDS: Final = 120.0


@dataclass(frozen=True, slots=True)
class Outage:
    """What was seen of one outage; times in seconds."""

    store: str
    seconds: float
    before: Sequence[float]  # how long turns took that ended before it
    during: Sequence[float]  # … that ended in it
    whole_after: float  # from the store's return until every chat has had a turn of its own
    refusals: int
    disconnects: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was seen in all."""

    outages: Sequence[Outage]
    states: Counter[str]
    failures: Sequence[str]
    lost: Sequence[str]
    acked: int
    statuses: Sequence[int]
    log: str = ""

    @property
    def clean(self) -> bool:
        """Whether nothing failed, and nothing was lost."""
        return not (self.failures or self.lost or any(self.statuses)) and set(self.states) == {"COMPLETED"}


Tell = Callable[[str], None]


async def run(
    redis: float, postgres: float, size: Size, *, calm: float = 5, tell: Tell, settings: dict[str, str] | None = None
) -> Outcome:
    """Let the world talk, take Redis and Postgres away one after the other for so many seconds, and look."""
    async with world(size, settings or {}) as made:
        await made.everybody_finished_a_turn(time.time(), _WHOLE_SECONDS)
        outages = []
        for name, store, seconds in (("redis", made.valkey, redis), ("postgres", made.postgres, postgres)):
            if seconds:
                outages.append(await _strike(made, name, store, seconds, calm, tell))
        made.load.end()
        async with asyncio.timeout(_WHOLE_SECONDS):
            await asyncio.wait({made.loading})
        return await _outcome(made, outages)


async def _strike(made: World, name: str, store: MortalStore, seconds: float, calm: float, tell: Tell) -> Outage:
    began = time.time()
    tell(f"{made.chats} chats talk for {calm:g} s")
    await asyncio.sleep(calm)
    killed = time.time()
    await store.kill()
    tell(f"{name} is killed, for {seconds:g} s")
    await asyncio.sleep(seconds)
    ended = time.time()
    await store.start()
    back = time.time()
    tell(f"{name} is back")
    await made.everybody_finished_a_turn(back, _WHOLE_SECONDS)
    whole = max(_first_turns(made, back))
    tell(f"all chats are well again {whole:.1f} s later")
    load = made.load
    return Outage(
        store=name,
        seconds=seconds,
        before=_seconds(load.of("finished", began), until=killed),
        during=_seconds(load.of("finished", killed), until=ended),
        whole_after=whole,
        refusals=len(load.of("notice", killed)) + len(load.of("held up", killed)),
        disconnects=len(load.of("disconnected", killed)),
    )


def _first_turns(made: World, since: float) -> list[float]:
    """Return after how many seconds each chat had finished a turn that began after a moment."""
    first: dict[str, float] = {}
    for one in made.load.of("finished"):
        if one["began"] >= since:
            first.setdefault(one["session_id"], one["at"] - since)
    return list(first.values())


def _seconds(finished: Sequence[dict[str, Any]], until: float) -> list[float]:
    return [one["seconds"] for one in finished if one["at"] < until]


async def _outcome(made: World, outages: Sequence[Outage]) -> Outcome:
    load = made.load
    failures = [one["why"] for one in load.of("refused")]
    failures += [one["why"] for one in load.of("finished") if one["state"] != "COMPLETED"]
    return Outcome(
        outages=outages,
        states=Counter(one["state"] for one in load.of("finished")),
        failures=failures,
        lost=await made.lost(),
        acked=len(load.of("acked")),
        statuses=load.statuses,
        log="\n".join(server.log() for server in made.servers),
    )


def table(outcome: Outcome) -> str:
    """Return what was seen, for people."""
    lines = []
    for outage in outcome.outages:
        lines.append(f"{outage.store} away for {outage.seconds:g} s")
        lines.append(f"  turns before it     {_spread(outage.before)}")
        lines.append(f"  turns during it     {_spread(outage.during)}")
        if outage.before and outage.during:
            added = statistics.median(outage.during) - statistics.median(outage.before)
            lines.append(f"  added latency       {added * 1000:+.0f} ms (median)")
        lines.append(f"  streams cut         {outage.disconnects}")
        lines.append(f"  clients told of it  {outage.refusals} times")
        lines.append(f"  whole again         {outage.whole_after:.1f} s after its return")
    states = ", ".join(f"{count} {state.lower()}" for state, count in sorted(outcome.states.items()))
    lines.append(f"turns                 {states}")
    lines.append(f"acknowledged frames   {outcome.acked}, of which lost {len(outcome.lost)}")
    lines += [f"failure: {why}" for why in outcome.failures[:10]]
    return "\n".join(lines)


def _spread(seconds: Sequence[float]) -> str:
    if not seconds:
        return "none ended"
    ordered = sorted(seconds)
    return (
        f"{len(ordered)}, p50 {ordered[len(ordered) // 2] * 1000:.0f} ms, "
        f"p95 {ordered[len(ordered) * 95 // 100] * 1000:.0f} ms, longest {ordered[-1] * 1000:.0f} ms"
    )
