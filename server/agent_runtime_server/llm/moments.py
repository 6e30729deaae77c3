"""Moments at which many answers are read, so that few wake-ups do, and each brings as many as the next."""

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import Final

TICK_SECONDS: Final = 0.02
"""Between one moment and the next, unless a shorter window was asked for."""
_CHOICE: Final = 2  # moments, where a window was asked for; what is wanted at once waits for the next one only
_AT_ONCE: Final = 16  # are called in one round of the event loop, so that nothing else waits for all of them

Come = Callable[[float], None]
"""Is called at its moment, with how late that is in seconds."""


class Place:
    """Somebody who waits for a moment."""

    __slots__ = ("_come", "_moment")

    def __init__(self, come: Come, moment: "dict[Place, None]") -> None:
        self._come: Come | None = come
        self._moment = moment
        moment[self] = None

    def cancel(self) -> None:
        """Wait no more."""
        self._come = None
        self._moment.pop(self, None)

    def reach(self, late: float) -> None:
        """Call whoever waits still."""
        if self._come is not None:
            self._come(late)


class Moments:
    """Gives out places at common moments, each of which takes one timer.

    Answers that are read at one moment end together, and those who heard them go on together: left to themselves nearly
    all would gather at a few moments, at which everything else waits for them.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._places: dict[float, dict[Place, None]] = {}

    def wait(self, when: float, window: float, come: Come) -> Place:
        """Call `come` at the least crowded of the next moments from `when` on.

        They are a tick or the `window` apart; all times are in seconds, by the clock of the event loop.
        """
        tick = min(TICK_SECONDS, window or TICK_SECONDS)
        first = math.ceil(when / tick)
        choice = [tick * (first + later) for later in range(_CHOICE if window else 1)]
        moment = min(choice, key=self._crowd)
        if moment not in self._places:
            self._places[moment] = {}
            self._loop.call_at(moment, self._reach, moment)
        return Place(come, self._places[moment])

    def _crowd(self, moment: float) -> int:
        return len(self._places.get(moment, ()))

    def _reach(self, moment: float) -> None:
        self._call([*self._places.pop(moment)], self._loop.time() - moment)

    def _call(self, places: Sequence[Place], late: float) -> None:
        for place in places[:_AT_ONCE]:
            try:
                place.reach(late)
            except Exception as error:  # noqa: BLE001 - told as a timer's own, for the others wait still
                told = {"message": "somebody who waited for a moment failed", "exception": error}
                self._loop.call_exception_handler(told)
        if len(places) > _AT_ONCE:
            self._loop.call_soon(self._call, places[_AT_ONCE:], late)
