"""One schedule played, and what came of it."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from agent_runtime import v1
from chaoskit.endpoint import Endpoint, Fault
from chaoskit.load import Load, load
from servicekit.service import Service


@dataclass(frozen=True)
class Schedule:
    """What goes wrong for how long, by the seconds since it began."""

    name: str
    fault: Callable[[float], Fault]
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """What became of the turns of a schedule, and what it took."""

    name: str
    turns: int
    at_once: int
    after_parking: int
    failed: int
    lost: int
    calls: int
    calls_meanwhile: int
    probes_meanwhile: int
    recovered: float | None

    def row(self) -> str:
        """Return a row of the table."""
        recovered = "-" if self.recovered is None else f"{self.recovered:.1f} s"
        return (
            f"| {self.name} | {self.turns} | {self.at_once} | {self.after_parking} | {self.failed} | {self.lost} "
            f"| {self.calls_meanwhile} | {recovered} |"
        )


HEADER = (
    "| schedule | turns | finished | parked, then finished | failed honestly | lost "
    "| calls while it lasted | full rate after |\n| --- | --- | --- | --- | --- | --- | --- | --- |"
)


async def play(
    service: Service, endpoint: Endpoint, schedule: Schedule, *, turns: int, before: float = 5, after: float = 15
) -> Outcome:
    """Let turns run, then let the endpoint fail for a while, then look how they come back."""
    calls = endpoint.calls
    async with load(service, turns, patience=60) as made:
        began = time.monotonic()
        await asyncio.sleep(before)
        fault_began, calls_before, probes_before = time.monotonic(), endpoint.calls, endpoint.probes
        endpoint.fault = lambda: schedule.fault(time.monotonic() - fault_began)
        await asyncio.sleep(schedule.seconds)
        endpoint.fault = lambda: Fault.NONE
        back = time.monotonic()
        meanwhile, probed = endpoint.calls - calls_before, endpoint.probes - probes_before
        await asyncio.sleep(after)
        full = made.finished(began + before / 2, fault_began) / (before / 2)
    over = [turn for turn in made.turns.values() if turn.state]
    well = [turn for turn in over if turn.state == v1.TURN_STATE_COMPLETED]
    return Outcome(
        name=schedule.name,
        turns=len(made.turns),
        at_once=sum(not turn.parked for turn in well),
        after_parking=sum(turn.parked for turn in well),
        failed=len(over) - len(well),
        lost=len(made.turns) - len(over),
        calls=endpoint.calls - calls,
        calls_meanwhile=meanwhile,
        probes_meanwhile=probed,
        recovered=_recovered(made, back, full, after),
    )


def _recovered(made: Load, back: float, full: float, after: float) -> float | None:
    """Return the seconds after which as many turns ended as before, over two seconds; None when they never did."""
    tenths = int((after - 2) * 10)
    for tenth in range(tenths + 1):
        since = back + tenth / 10
        if made.finished(since, since + 2) >= 0.8 * full * 2:
            return tenth / 10 + 2
    return None
