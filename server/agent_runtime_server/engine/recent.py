"""The latest events of a session, kept at hand for its readers."""

from collections.abc import Iterable, Sequence
from typing import Final

from agent_runtime_server.stores.base import StoredEvent

_MOST_EVENTS: Final = 32  # some turns: who was away for longer reads the log
_MOST_BYTES: Final = 256 << 10


class Recent:
    """The end of a log, bounded in number and size."""

    def __init__(self) -> None:
        self._events: list[StoredEvent] = []
        self._bytes = 0

    def add(self, events: Iterable[StoredEvent]) -> None:
        """Take what has been committed behind the others."""
        for event in events:
            self._events.append(event)
            self._bytes += len(event.payload)
        while len(self._events) > _MOST_EVENTS or self._bytes > _MOST_BYTES:
            self._bytes -= len(self._events.pop(0).payload)

    @property
    def bytes(self) -> int:
        """Size of what is kept."""
        return self._bytes

    def behind(self, after_seq: int) -> Sequence[StoredEvent] | None:
        """Return the events behind `after_seq`, or None when they reach back too far."""
        if not self._events or self._events[0].seq > after_seq + 1:
            return None
        return [event for event in self._events if event.seq > after_seq]
