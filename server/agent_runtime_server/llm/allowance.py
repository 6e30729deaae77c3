"""How many calls may be made once more: a share of all, so that retries never make an outage worse."""

from collections.abc import Callable

_SHARE = 0.2  # of a retry that each call earns
_FLOOR = 10.0  # retries there are after a quiet time
_FLOOR_SECONDS = 60.0  # in which an empty floor fills up again
_MOST = 100.0


class Allowance:
    """Retries left for one model at one endpoint; `clock` counts seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._left = _FLOOR
        self._looked = clock()

    def earn(self) -> None:
        """Note a call."""
        self._left = min(_MOST, self._left + _SHARE)

    def spend(self) -> bool:
        """Take one retry, if there is one."""
        now = self._clock()
        if self._left < _FLOOR:
            self._left = min(_FLOOR, self._left + (now - self._looked) * _FLOOR / _FLOOR_SECONDS)
        self._looked = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
