"""What must hold of a server that is asked for more than it can do."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from overloadkit.client import Seen
from overloadkit.figures import Figures, percentile
from overloadkit.stand import Weights

_REFUSAL_SECONDS: Final = 0.05
_MOST_GROWTH: Final = 0.05
_MOST_LEFT: Final = 12_000  # bytes of a finished turn; without any refusals it is about 8000
_MOST_RISE: Final = 0.2
_BACK: Final = 1.2  # times the unloaded p99
_LEAST_SERVED: Final = 0.85  # of what could be


@dataclass(frozen=True, slots=True)
class Demand:
    """Something that must be so, and how it was."""

    text: str
    seen: str
    holds: bool

    def __str__(self) -> str:
        return f"{'holds ' if self.holds else 'MISSED'}  {self.text}: {self.seen}"


@dataclass(frozen=True, slots=True)
class Load:
    """What an overload was made of."""

    turns: int  # that may run at a time
    answer_seconds: float

    @property
    def capacity(self) -> float:
        """Turns that can be done in a second."""
        return self.turns / self.answer_seconds


def sound(clients: Sequence[Seen]) -> Iterator[Demand]:
    """Yield what must hold of any load: every turn that was accepted finished, and every refusal was a right one."""
    wrong = [text for one in clients for text in one.wrong]
    yield Demand("nothing failed", wrong[0] if wrong else "nothing", not wrong)
    unsent = sum(sum(one.unsent.values()) for one in clients)
    yield Demand("the clients had a stream for every turn", f"{unsent} had none", not unsent)


def overload(load: Load, before: Figures, during: Figures, weights: Weights) -> Iterator[Demand]:
    """Yield what must hold of accepted and refused turns while many more are asked for than can be done."""
    times = during.p99 / before.p99
    yield Demand("p99 of accepted turns is within 2 times the unloaded one", f"{times:.2f} times", times <= 2)
    slowest = percentile(during.refused, 99)
    told = f"p99 {slowest * 1000:.1f} ms of {len(during.refused)}"
    yield Demand("refusals answer in less than 50 ms", told, 0 < slowest < _REFUSAL_SECONDS)
    served = len(during.took) / weights.seconds
    told = f"{served:.1f} turns/s of {load.capacity:.1f}"
    yield Demand("what can be done is done", told, served >= _LEAST_SERVED * load.capacity)
    growth = _growth(weights.resident)
    yield Demand("memory is flat: last quarter over second quarter", f"{growth:+.1%}", growth < _MOST_GROWTH)
    left = (weights.resident[-1] - weights.resident[0]) / max(1, len(during.took))
    text = "memory grows by what finished turns leave in their sessions, and by nothing for refusals"
    yield Demand(text, f"{left / 1000:.1f} KB a turn", left <= _MOST_LEFT)


def recovery(load: Load, before: Figures, after: Figures, weights: Weights) -> Iterator[Demand]:
    """Yield what must hold as soon as no more is asked for than can be done."""
    times = after.p99 / before.p99
    yield Demand("p99 of turns begun right after is within 1.2 times", f"{times:.2f} times", times <= _BACK)
    last = max(0.0, after.last_refusal - weights.began)
    told = f"the last one came after {last:.1f} s" if last else "nobody was"
    yield Demand("nobody is refused beyond the time of one answer", told, last <= load.answer_seconds + 0.5)


def fairness(alone: Figures, crowded: Figures) -> Iterator[Demand]:
    """Yield what must hold of the other tenants while one sends fifty times as much as each of them."""
    rise = crowded.p99 / alone.p99 - 1
    yield Demand("the others' p99 rises by less than 20 %", f"{rise:+.1%}", rise < _MOST_RISE)
    yield Demand("none of the others is refused", f"{len(crowded.refused)} were", not crowded.refused)


def _growth(resident: Sequence[int]) -> float:
    quarter = max(1, len(resident) // 4)
    early, late = resident[quarter : 2 * quarter] or resident, resident[-quarter:]
    return (sum(late) / len(late)) / (sum(early) / len(early)) - 1
