"""What the matrix sees, as it happens, of one seat of a client program."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from killkit.client import Place
from killkit.proxy import Proxy
from killkit.records import Record, What

_SIGNS: Final = (What.EVENT, What.ACK)
_MOST_SIGNS: Final = 1000


@dataclass(eq=False, slots=True)
class Seat:
    """One user: where it stands, over which proxy it speaks, and when its streams began."""

    name: str
    proxy: Proxy
    session_id: str = ""
    replica_pid: int = 0
    """The process that serves it; 0 while it is on its way to one."""
    place: Place = field(default_factory=Place)
    _begun: dict[int, float] = field(default_factory=dict)
    _signs: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=_MOST_SIGNS))
    """When events and acks came, and when the stream of each began."""
    _watchers: list[tuple[Callable[[Record], bool], asyncio.Future[float]]] = field(default_factory=list)

    def take(self, session_id: str, record: Record) -> None:
        """Take what the seat's program has just recorded."""
        if session_id != self.session_id:
            self.session_id, self.place = session_id, Place()
        if record.what in (What.BORN, What.HELLO):
            self.replica_pid = 0
        if record.what is What.BORN:
            self._begun.clear()
        elif record.what is What.HELLO:
            self._begun[record.stream] = record.at
        elif record.what is What.WELCOME:
            self.replica_pid = int(record.key.rpartition(":")[2])
        elif record.what in _SIGNS:
            self._signs.append((record.at, self._begun.get(record.stream, 0)))
        self.place.take(record)
        for wanted, moment in self._watchers:
            if not moment.done() and wanted(record):
                moment.set_result(record.at)

    async def sign(self, since: float, *, on_new_stream: bool) -> float:
        """Return when the first event or ack came after a moment, on a stream that began after it if so wanted."""
        while True:
            for at, begun in self._signs:
                if at > since and (begun > since or not on_new_stream):
                    return at
            await self.until(lambda record: record.what in _SIGNS)

    async def until(self, wanted: Callable[[Record], bool]) -> float:
        """Return when a record of this kind was made."""
        moment: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        watcher = (wanted, moment)
        self._watchers.append(watcher)
        try:
            return await moment
        finally:
            self._watchers.remove(watcher)
