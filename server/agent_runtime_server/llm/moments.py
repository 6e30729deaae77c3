"""Moments at which many answers are read, so that few wake-ups do, and each brings as many as the next."""

import math
from collections import Counter
from typing import Final

TICK_SECONDS: Final = 0.02
"""Between one moment and the next, unless a shorter window was asked for."""
_CHOICE: Final = 2  # moments, where a window was asked for; what is wanted at once waits for the next one only


class Moments:
    """Gives out places at common moments, and takes them back.

    Answers that are read at one moment end together, and those who heard them go on together: left to themselves nearly
    all would gather at a few moments, at which everything else waits for them.
    """

    def __init__(self) -> None:
        self._taken: Counter[float] = Counter()

    def take(self, when: float, window: float) -> float:
        """Return the least crowded of the next moments from `when` on, a tick or the `window` apart; all in seconds."""
        tick = min(TICK_SECONDS, window or TICK_SECONDS)
        first = math.ceil(when / tick)
        choice = [tick * (first + later) for later in range(_CHOICE if window else 1)]
        moment = min(choice, key=self._taken.__getitem__)
        self._taken[moment] += 1
        return moment

    def give_back(self, moment: float) -> None:
        """Free a place, at its moment or before."""
        self._taken[moment] -= 1
        if not self._taken[moment]:
            del self._taken[moment]
