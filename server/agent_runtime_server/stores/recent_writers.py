"""Who has written a moment ago, on any replica: as far as the bus told."""

from time import monotonic
from typing import Final

from agent_runtime_server.stores.base import Bus

_TOPIC: Final = "/writers"  # no session's id begins so
_TELL_SECONDS: Final = 1.0


class RecentWriters:
    """Remembers for a while who has written, and lets the other replicas know."""

    def __init__(self, bus: Bus, seconds: float) -> None:
        self._bus = bus
        self._seconds = seconds
        self._until: dict[str, float] = {}  # the first to be forgotten first
        self._told: dict[str, float] = {}
        bus.listen(_TOPIC, self._heard)

    def note(self, caller: str) -> None:
        """Remember a caller, and tell the others unless that was done just now."""
        now = monotonic()
        self._remember(caller, now + self._seconds)
        if caller not in self._told or now - self._told[caller] > _TELL_SECONDS:
            self._told.pop(caller, None)
            self._told[caller] = now
            self._bus.publish(_TOPIC, caller.encode())

    def __contains__(self, caller: str) -> bool:
        """Tell whether a caller has written a moment ago."""
        return self._until.get(caller, 0) > monotonic()

    def _heard(self, message: bytes) -> None:
        # As long again as its replica may have kept the next write to itself.
        self._remember(message.decode(errors="replace"), monotonic() + self._seconds + _TELL_SECONDS)

    def _remember(self, caller: str, until: float) -> None:
        self._until[caller] = max(until, self._until.pop(caller, 0))
        now = monotonic()
        for memory, overdue in ((self._until, now), (self._told, now - _TELL_SECONDS)):
            while memory and next(iter(memory.values())) < overdue:
                del memory[next(iter(memory))]
