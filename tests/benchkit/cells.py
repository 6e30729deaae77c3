"""One measurement: a system under load from clients of their own, and what its turns cost."""

import asyncio
import json
import random
import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from benchkit.commits import commit_latencies
from benchkit.load import Job, Seen
from benchkit.processes import KIT_PATH, Failed, child, cpu_seconds, resident_bytes

_LEAD_SECONDS: Final = 0.3  # between telling the clients when to begin, and that moment
_STREAMS_A_CLIENT: Final = 128


@dataclass(frozen=True, slots=True)
class System:
    """Something that can be put under load."""

    name: str
    kind: str  # of player
    target: str
    pids: Sequence[int] = ()
    template: str = ""
    metrics_port: int = 0


@dataclass(frozen=True, slots=True)
class Cell:
    """A load: so many streams, each token so late."""

    system: str
    streams: int
    delay_ms: int

    @property
    def name(self) -> str:
        """Its key in tables and files."""
        return f"{self.system} {self.streams}/{self.delay_ms}"


Figures = Mapping[str, float]


async def measure(system: System, cell: Cell, warm: float, seconds: float, seed: int, folder: Path) -> Figures:
    """Put a system under load and return what was seen."""
    async with AsyncExitStack() as stack:
        clients = []
        answers = [folder / f"seen-{number}.json" for number, _ in enumerate(_shares(cell.streams))]
        for number, streams in enumerate(_shares(cell.streams)):
            load = (system.kind, system.target, streams, cell.delay_ms, warm, seconds, seed + number)
            job = Job(*load, str(answers[number]), system.template)
            client = await stack.enter_async_context(child("-m", "benchkit.load", folder=folder, settings=KIT_PATH))
            await client.tell(json.dumps(asdict(job)))
            clients.append(client)
        for client in clients:
            await client.ready("ready")
        begin = time.monotonic() + _LEAD_SECONDS
        for client in clients:
            await client.tell(str(begin))
        await asyncio.sleep(begin + warm - time.monotonic())
        commits = await commit_latencies(system.metrics_port)
        before, started = cpu_seconds(system.pids), time.monotonic()
        await asyncio.sleep(seconds)
        cpu, took = cpu_seconds(system.pids) - before, time.monotonic() - started
        commits = (await commit_latencies(system.metrics_port)).since(commits)
        for client in clients:
            await client.ready("done", 120)
        seen = [Seen(**json.loads(answer.read_text())) for answer in answers]
    found = _figures(_joined(seen, cell), cpu, took, resident_bytes(system.pids))
    return found | ({"commit p99 ms": commits.percentile(99)} if system.metrics_port else {})


def _shares(streams: int) -> list[int]:
    """Share the streams among the fewest clients that can carry them."""
    clients = -(-streams // _STREAMS_A_CLIENT)
    return [streams // clients + (number < streams % clients) for number in range(clients)]


def _joined(seen: Sequence[Seen], cell: Cell) -> Seen:
    whole = Seen()
    for one in seen:
        if one.errors:
            raise Failed(f"{cell.name}: {len(one.errors)} workers failed, the first with {one.errors[0]}")
        whole.turns += one.turns
        whole.frames += one.frames
        whole.cpu += one.cpu
        for name in ("took", "first", "acked", "offset"):
            getattr(whole, name).extend(getattr(one, name))
    return whole


def _figures(seen: Seen, cpu: float, seconds: float, resident: int) -> dict[str, float]:
    figures = {
        "turns/s": seen.turns / seconds,
        "cpu ms/turn": cpu * 1000 / max(seen.turns, 1),
        "client ms/turn": seen.cpu * 1000 / max(seen.turns, 1),
        "turn p50 ms": percentile(seen.took, 50),
        "turn p99 ms": percentile(seen.took, 99),
        "first p50 ms": percentile(seen.first, 50),
        "token p50 ms": percentile(seen.offset, 50),
        "frames/turn": seen.frames / max(seen.turns, 1),
        "resident MB": resident / 1e6,
    }
    if seen.acked:
        figures |= {"ack p50 ms": percentile(seen.acked, 50), "ack p99 ms": percentile(seen.acked, 99)}
    return figures


def percentile(seconds: Sequence[float], share: int) -> float:
    """Return a percentile, in milliseconds; 0 when a system was too slow for the window."""
    ordered = sorted(seconds) or [0.0]
    return ordered[min(len(ordered) - 1, len(ordered) * share // 100)] * 1000


def medians(repeats: Sequence[Figures]) -> dict[str, float]:
    """Return the median of each figure."""
    return {name: statistics.median(one[name] for one in repeats) for name in repeats[0]}


def shuffled(cells: Sequence[Cell], chance: random.Random) -> list[Cell]:
    """Return the cells in an order that favours none of them."""
    return chance.sample(list(cells), len(cells))
