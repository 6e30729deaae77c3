"""Turns on their way through workers and databases, event by event.

A worker does one thing at a time and has one transaction in flight, in which everything goes that has gathered, for a
little longer where many come; a database has so many cores and one disk. That is all there is to queue for: models,
tools and humans only take time.
"""

import heapq
import random
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from itertools import count
from typing import Final

from agent_runtime_server.stores.postgres.queue import Bounds
from scalekit.costs import APPENDS_A_TURN, Costs, Fleet, Load

_BOUNDS: Final = Bounds()
_BURSTS_AN_ANSWER: Final = 8
_SHARE_OF_BEGIN: Final = 0.35  # of a turn's CPU, spent before its first commit

Wait = Callable[[Callable[[], None]], None]
"""Something to wait for: it takes what is to be called then."""
Way = Generator[Wait, None, None]


class Time:
    """The simulated time, in milliseconds, and what is to happen in it."""

    def __init__(self) -> None:
        self.now = 0.0
        self._numbers = count()
        self._to_come: list[tuple[float, int, Callable[[], None]]] = []

    def at(self, moment: float, what: Callable[[], None]) -> None:
        """Let something happen at a moment."""
        heapq.heappush(self._to_come, (moment, next(self._numbers), what))

    def after(self, delay: float) -> Wait:
        """Return the wait for a delay."""
        return lambda what: self.at(self.now + delay, what)

    def go(self, way: Way) -> None:
        """Take a way on to its next wait."""
        for wait in way:
            wait(lambda: self.go(way))
            return

    def run(self, until: float) -> None:
        """Let everything happen up to a moment."""
        while self._to_come and self._to_come[0][0] <= until:
            self.now, _, what = heapq.heappop(self._to_come)
            what()


class Cores:
    """So many things at a time, first come first served."""

    def __init__(self, time: Time, number: int) -> None:
        self.busy_ms = 0.0
        self._time = time
        self._free = number
        self._queue: deque[tuple[float, Callable[[], None]]] = deque()

    def work(self, ms: float) -> Wait:
        """Return the wait for a piece of work."""

        def wait(what: Callable[[], None]) -> None:
            self._queue.append((ms, what))
            self._begin()

        return wait

    def _begin(self) -> None:
        while self._free and self._queue:
            ms, what = self._queue.popleft()
            self._free -= 1
            self.busy_ms += ms
            self._time.at(self._time.now + ms, lambda what=what: self._end(what))  # type: ignore[misc]

    def _end(self, what: Callable[[], None]) -> None:
        self._free += 1
        what()
        self._begin()


class Worker:
    """One event loop, which needs a core for each thing it does, and its group commit."""

    def __init__(self, time: Time, cores: Cores, database: Cores, costs: Costs) -> None:
        self.batches: list[int] = []
        self._time = time
        self._cores = cores
        self._database = database
        self._costs = costs
        self._to_do: deque[tuple[float, Callable[[], None]]] = deque()
        self._works = False
        self._waiting: list[Callable[[], None]] = []
        self._writes = False

    def work(self, ms: float) -> Wait:
        """Return the wait for a piece of work of this loop."""

        def wait(what: Callable[[], None]) -> None:
            self._to_do.append((ms, what))
            if not self._works:
                self._time.go(self._work())

        return wait

    def _work(self) -> Way:
        self._works = True
        while self._to_do:
            ms, what = self._to_do.popleft()
            yield self._cores.work(ms)
            what()
        self._works = False

    def commit(self) -> Wait:
        """Return the wait for an append."""

        def wait(what: Callable[[], None]) -> None:
            self._waiting.append(what)
            if not self._writes:
                self._time.go(self._write())

        return wait

    def _write(self) -> Way:
        self._writes = True
        while self._waiting:
            began = self._time.now
            batch, self._waiting = self._waiting[: _BOUNDS.batch_appends], self._waiting[_BOUNDS.batch_appends :]
            self.batches.append(len(batch))
            costs = self._costs
            yield self._database.work(costs.postgres_ms_a_commit + costs.postgres_ms_an_append * len(batch))
            yield self._time.after(costs.flush_ms)
            for told in batch:
                told()
            left = began + _BOUNDS.apart_seconds * 1000 - self._time.now
            if len(batch) >= _BOUNDS.crowd and left > 0:
                yield self._time.after(left)
        self._writes = False


@dataclass(slots=True)
class Seen:
    """What came out."""

    seconds: float
    took_ms: list[float] = field(default_factory=list)  # of turns, beyond what the model takes
    committed_ms: list[float] = field(default_factory=list)
    batch: float = 0.0  # appends a transaction, on average
    database_busy: float = 0.0  # share of its cores
    machine_busy: float = 0.0

    @property
    def rate(self) -> float:
        """Turns a second."""
        return len(self.took_ms) / self.seconds

    def percentile(self, share: float) -> float:
        """Return a percentile of what a turn takes beyond the model, in milliseconds."""
        return _percentile(self.took_ms, share)

    def commit_percentile(self, share: float) -> float:
        """Return a percentile of what a commit takes, in milliseconds."""
        return _percentile(self.committed_ms, share)


def _percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else float("nan")


def simulate(costs: Costs, fleet: Fleet, load: Load, seed: int = 1) -> Seen:
    """Put a fleet under a load and return what comes out; the same seed brings the same."""
    time = Time()
    machine = Cores(time, fleet.cores or fleet.workers)
    databases = [machine if fleet.cores else Cores(time, fleet.shard_cores) for _ in range(fleet.shards)]
    workers = [Worker(time, machine, databases[number % fleet.shards], costs) for number in range(fleet.workers)]
    traffic = _Traffic(time, random.Random(seed), costs, load, workers, machine if fleet.cores else None)
    traffic.begin()
    time.run(load.warm_seconds * 1000)
    before = [one.busy_ms for one in (machine, *databases)]
    time.run((load.warm_seconds + load.seconds) * 1000)
    spent = [one.busy_ms - earlier for one, earlier in zip((machine, *databases), before, strict=True)]
    seen, whole = traffic.seen, load.seconds * 1000
    seen.machine_busy = spent[0] / (whole * (fleet.cores or fleet.workers))
    seen.database_busy = max(spent[1:]) / (whole * (fleet.cores or fleet.shard_cores))
    batches = [size for worker in workers for size in worker.batches]
    seen.batch = sum(batches) / len(batches) if batches else 0.0
    return seen


class _Traffic:
    """Lets turns come and notes those that end once it is warm."""

    def __init__(
        self, time: Time, chance: random.Random, costs: Costs, load: Load, workers: list[Worker], shared: Cores | None
    ) -> None:
        self.seen = Seen(load.seconds)
        self._time = time
        self._chance = chance
        self._costs = costs
        self._load = load
        self._workers = workers
        self._shared = shared  # the machine, where clients, model and cache need it too

    def begin(self) -> None:
        for number in range(self._load.streams):
            self._time.go(self._stream(self._workers[number % len(self._workers)]))
        if self._load.rate:
            self._time.go(self._arrivals())

    def _stream(self, worker: Worker) -> Way:
        yield self._time.after(self._chance.uniform(0, self._load.answer_ms + 20))
        while True:
            yield from self._turn(worker)

    def _arrivals(self) -> Way:
        while True:
            yield self._time.after(self._chance.expovariate(self._load.rate / 1000))
            self._time.go(self._turn(self._chance.choice(self._workers)))

    def _turn(self, worker: Worker) -> Way:
        started, costs = self._time.now, self._costs
        if self._shared is not None:
            told = costs.redis_ms_a_turn if len(self._workers) > 1 else 0  # one worker alone has nobody to tell
            yield self._shared.work(costs.load_ms_a_turn + told)
        yield worker.work(costs.server_ms_a_turn * _SHARE_OF_BEGIN)
        yield from self._commit(worker)
        for _ in range(_BURSTS_AN_ANSWER):
            yield self._time.after(self._load.answer_ms / _BURSTS_AN_ANSWER)
            yield worker.work(costs.server_ms_a_turn * (1 - _SHARE_OF_BEGIN) / _BURSTS_AN_ANSWER)
        for _ in range(APPENDS_A_TURN - 1):
            yield from self._commit(worker)
        if self._warm:
            self.seen.took_ms.append(self._time.now - started - self._load.answer_ms)

    def _commit(self, worker: Worker) -> Way:
        asked = self._time.now
        yield worker.commit()
        if self._warm:
            self.seen.committed_ms.append(self._time.now - asked)

    @property
    def _warm(self) -> bool:
        return self._time.now >= self._load.warm_seconds * 1000
