"""Token buckets: what may pass at once, and at what rate it comes again.

A bucket of a rate "`amount` in `period_ms`, at most `burst` at once" is counted in parts of 1/`period_ms`, so that
every number is whole and `amount` parts come back each millisecond. Several buckets are drawn from at once: from all of
them, or, when one has too little, from none. The same arithmetic stands as a script beside the Redis store, and the two
are held to each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

LARGEST: Final = 1 << 53
"""Parts a bucket may hold, or lack: scripts count in floating point."""
_FEW: Final = 1024


@dataclass(frozen=True, slots=True)
class Rate:
    """So much in so long, and so much at once."""

    amount: int
    period_ms: int
    burst: int

    def __post_init__(self) -> None:
        if min(self.amount, self.period_ms, self.burst) < 1:
            raise ValueError("the amount, the period and the burst of a rate are at least 1")
        if self.burst * self.period_ms >= LARGEST:
            raise ValueError("the burst or the period of a rate is too large")

    @property
    def capacity(self) -> int:
        """Parts of a full bucket."""
        return self.burst * self.period_ms

    def share(self, replicas: int) -> "Rate":
        """Return the share of one of so many that cannot ask each other."""
        replicas = max(1, replicas)
        return self if replicas == 1 else Rate(self.amount, self.period_ms * replicas, max(1, self.burst // replicas))


@dataclass(frozen=True, slots=True)
class Draw:
    """What is taken from a bucket that holds at least `least`; without it whatever it holds, into debt if need be."""

    bucket: str
    rate: Rate
    cost: int = 1
    least: int | None = 1

    @property
    def needed(self) -> int | None:
        """Parts that the bucket has to hold; never more than it can."""
        return None if self.least is None else min(self.least, self.rate.burst) * self.rate.period_ms

    @property
    def parts(self) -> int:
        """Parts that are taken."""
        return min(self.cost * self.rate.period_ms, LARGEST)


@dataclass(frozen=True, slots=True)
class Drawn:
    """The answer: after how long to ask again and which draw, by its place, refuses longest; 0 and None when taken."""

    wait_ms: int = 0
    refused: int | None = None


@dataclass(frozen=True, slots=True)
class Level:
    """Parts in a bucket at a moment."""

    parts: int
    at: int

    def later(self, rate: Rate, now: int) -> "Level":
        """Return what is in it by now; a clock that goes back brings nothing."""
        passed = max(0, now - self.at)
        return Level(min(rate.capacity, self.parts + passed * rate.amount), self.at + passed)


@dataclass(slots=True)
class Buckets:
    """Buckets of one process; moments in milliseconds."""

    levels: dict[str, Level] = field(default_factory=dict)
    _full_at: dict[str, int] = field(default_factory=dict)  # when a bucket can be forgotten
    _sweep_above: int = _FEW

    def take(self, draws: Sequence[Draw], now: int) -> Drawn:
        """Draw from all of these buckets or from none; each stands for itself, so name none twice."""
        found = [self.levels.get(draw.bucket, Level(draw.rate.capacity, now)).later(draw.rate, now) for draw in draws]
        waits = [_wait(draw, level, now) for draw, level in zip(draws, found, strict=True)]
        longest = max(waits, default=0)
        if longest:
            return Drawn(longest, waits.index(longest))
        for draw, level in zip(draws, found, strict=True):
            left = Level(max(-LARGEST, level.parts - draw.parts), level.at)
            self._keep(draw, left, now)
        self._sweep(now)
        return Drawn()

    def _keep(self, draw: Draw, level: Level, now: int) -> None:
        full_at = level.at + _until(level, draw.rate.capacity, draw.rate)
        if full_at > now:
            self.levels[draw.bucket], self._full_at[draw.bucket] = level, full_at
        else:
            self._forget(draw.bucket)

    def _forget(self, bucket: str) -> None:
        self.levels.pop(bucket, None)
        self._full_at.pop(bucket, None)

    def _sweep(self, now: int) -> None:
        """Forget full buckets whenever there are twice as many as were left the last time."""
        if len(self.levels) <= self._sweep_above:
            return
        for name in [name for name, full_at in self._full_at.items() if full_at <= now]:
            self._forget(name)
        self._sweep_above = max(_FEW, 2 * len(self.levels))


def _wait(draw: Draw, level: Level, now: int) -> int:
    missing = 0 if draw.needed is None else _until(level, draw.needed, draw.rate)
    return missing and missing + level.at - now


def _until(level: Level, parts: int, rate: Rate) -> int:
    """Return the milliseconds until a bucket holds so much."""
    return max(0, -((level.parts - parts) // rate.amount))
