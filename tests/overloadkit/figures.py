"""What the clients saw, as figures."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Self

from overloadkit.client import Seen
from overloadkit.stand import Weights

_COLUMNS: Final = (
    "phase", "turns/s asked for", "turns", "refused", "turn p50", "turn p99", "first text p99",
    "refusal p50", "refusal p99", "longest", "server CPU", "server MB", "client late p99",
)  # fmt: skip
HEADER: Final = f"| {' | '.join(_COLUMNS)} |\n{'| --- ' * len(_COLUMNS)}|"


@dataclass(frozen=True, slots=True)
class Figures:
    """One phase as some clients saw it: times in seconds, the shortest first."""

    took: list[float]
    first: list[float]  # until text came
    refused: list[float]  # until a refusal came
    last_refusal: float  # moment of the machine's clock
    late: list[float]
    unsent: int

    @classmethod
    def of(cls, clients: Iterable[Seen], phase: str) -> Self:
        """Put together what clients saw of a phase."""
        seen = list(clients)
        turns = [turn for one in seen for turn in one.turns.get(phase, ())]
        refusals = [refusal for one in seen for refusal in one.refusals.get(phase, ())]
        return cls(
            sorted(ended - began for began, _, ended in turns),
            sorted(first - began for began, first, _ in turns),
            sorted(ended - began for began, ended in refusals),
            max((ended for _, ended in refusals), default=0),
            sorted(late for one in seen for late in one.late.get(phase, ())),
            sum(one.unsent.get(phase, 0) for one in seen),
        )

    @property
    def p99(self) -> float:
        """The time within which all but one in a hundred turns had finished."""
        return percentile(self.took, 99)

    def row(self, phase: str, rate: float, weights: Weights) -> str:
        """Return a row of the table."""
        cells = [
            *(phase, f"{rate:g}", f"{len(self.took)}", f"{len(self.refused)}"),
            *(_ms(self.took, 50), _ms(self.took, 99), _ms(self.first, 99)),
            *(_ms(self.refused, 50), _ms(self.refused, 99), _ms(self.refused, 100)),
            *(f"{weights.used / weights.seconds:.0%}", f"{weights.resident[-1] / 1e6:.0f}", _ms(self.late, 99)),
        ]
        return f"| {' | '.join(cells)} |"


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the value that so many hundredths of all do not pass; 0 of none."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else 0.0


def _ms(ordered: Sequence[float], percent: float) -> str:
    return f"{percentile(ordered, percent) * 1000:.0f} ms" if ordered else "-"
