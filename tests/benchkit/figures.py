"""The figures that count, each with what it must be and what it aims at."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from benchkit.cells import Figures

_MANY_STREAMS: Final = 5000  # of fewer, a tenth finds room in what the start of a server has left

Cells = Mapping[str, Figures]


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure; the smaller the better, unless `more` says otherwise."""

    name: str
    value: float
    must: float
    aim: float
    more: bool = False

    @property
    def holds(self) -> bool:
        """Whether it is what it must be."""
        return self.value >= self.must if self.more else self.value <= self.must

    @property
    def verdict(self) -> str:
        """Say whether it holds, and whether it is what it aims at."""
        aimed = self.value >= self.aim if self.more else self.value <= self.aim
        return "aim met" if aimed else "holds" if self.holds else "MISSED"


def figures(cells: Cells, extra: Cells, peers: Sequence[str]) -> list[Figure]:
    """Return the figures for which everything was measured."""
    return [*_loads(cells), *_against_peers(cells, peers), *_others(extra)]


def _loads(cells: Cells) -> Iterator[Figure]:
    def cost(name: str) -> float:
        return cells[name]["cpu ms/turn"]

    paced = cells["service 128/5"]
    direct = cells["direct 1/5"]["first p50 ms"]
    for streams in (128, 32):
        bare, name = cost(f"bare {streams}/0"), f"over bare gRPC at {streams}"
        yield Figure(f"CPU/turn, 128 streams, 5 ms/token, {name}", cost("service 128/5") / bare, 1.3, 0.9)
        yield Figure(f"the same, coalescing off, {name}", cost("per token 128/5") / bare, 2.2, 1.5)
    yield Figure("first token over the model's own, 1 stream, ms", cells["service 1/5"]["first p50 ms"] - direct, 2, 1)
    yield Figure("turn p99, 128 streams, 5 ms/token, ms", paced["turn p99 ms"], 430, 360)
    yield Figure("message to ack p99, 128 streams, ms", paced["ack p99 ms"], 15, 6)
    yield Figure("commit p99, 128 streams, 5 ms/token, ms", paced["commit p99 ms"], 15, 6)
    rate = cells["service 64/0"]["turns/s"] / cells["bare 64/0"]["turns/s"]
    yield Figure("turns/s over bare gRPC, 64 streams, 0 ms/token", rate, 0.8, 3, more=True)
    busiest = max(int(name.split()[-1].split("/")[0]) for name in cells)
    growth = cost(f"service {busiest}/0") / cost("service 1/0")
    yield Figure(f"CPU/turn at {busiest} streams over that at 1", growth, 1.15, 1)
    cheapest = min(cell["cpu ms/turn"] for name, cell in cells.items() if re.fullmatch(r"service \d+/0", name))
    yield Figure("the same over the cheapest of all", cost(f"service {busiest}/0") / cheapest, 1.15, 1)


def _against_peers(cells: Cells, peers: Sequence[str]) -> Iterator[Figure]:
    if not peers:
        return
    for load, must, aim in (("128/5", 11, 13), ("32/0", 15, 40)):
        best = max(cells[f"{peer} {load}"]["turns/s"] for peer in peers)
        for system, name in (
            ("service", f"turns/s over the best peer, {load}"),
            ("workers", f"the same, a worker a core, {load}"),
        ):
            rate = cells[f"{system} {load}"]["turns/s"] / max(best, 0.1)
            yield Figure(name, rate, must, aim, more=True)


def _others(extra: Cells) -> Iterator[Figure]:
    if crowd := extra.get("crowd"):
        streams = int(crowd["streams"])
        yield Figure(f"memory of an idle session, {streams} open, KB", crowd["KB/stream"], 50, 35)
        if streams >= _MANY_STREAMS:
            growth = crowd["KB/stream"] / crowd["KB/stream at a tenth"]
            yield Figure("the same over that at a tenth as many", growth, 1.15, 1)
        yield Figure(f"CPU of {streams} idle sessions, % of a core", crowd["idle CPU %"], 10, 5)
        if "failed turns" in crowd:
            yield from _crowd_turns(crowd)
    if lengths := extra.get("lengths"):
        growth = lengths["CPU ms/turn at a long log"] / lengths["CPU ms/turn at 10 events"]
        yield Figure(f"CPU/turn at {int(lengths['events of the long log'])} events over that at 10", growth, 1.15, 1)
    if start := extra.get("start"):
        yield Figure("from the start of the process until it serves, stores running, s", start["serves after s"], 2, 1)
    if recovery := extra.get("recovery"):
        yield Figure("a killed server's turn is taken over, s", recovery["taken over s"], 3, 2)


def _crowd_turns(crowd: Figures) -> Iterator[Figure]:
    """Return how those fare that take turns, held to what 128 streams are held to."""
    late = crowd["their turn p99 ms over the model's own"]
    yield Figure(
        f"{int(crowd['in a turn at any time'])} of them in a turn at any time: p99 over the model's, ms", late, 110, 40
    )
    yield Figure("turns of theirs that failed, with those in bursts", crowd["failed turns"], 0, 0)
