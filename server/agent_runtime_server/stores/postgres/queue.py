"""Appends that wait for the next group commit: in bounds, and no session at the cost of another.

Each session has a line of its own, and a batch takes one append of each. What finds no room waits outside, so that its
stream takes no further frame; what has waited outside for too long is refused.
"""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice
from time import monotonic

from agent_runtime_server.core.errors import StoreUnavailable
from agent_runtime_server.stores.base import Append, Appended


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a batch and the queue may hold, and how long; bytes are those of events."""

    batch_appends: int = 256
    batch_bytes: int = 8 << 20
    appends: int = 4096
    bytes: int = 64 << 20
    appends_of_one_session: int = 64
    outside_seconds: float = 5
    crowd: int = 4  # appends in a batch, from which on the next one gathers
    apart_seconds: float = 0.005  # between the beginnings of two batches then


@dataclass(slots=True, eq=False)
class Waiting:
    """An append and whoever waits for its answer."""

    append: Append
    size: int
    answer: asyncio.Future[Appended]
    since: float
    patience: asyncio.TimerHandle | None = None

    def done(self, appended: Appended) -> None:
        """Answer, if somebody still listens."""
        if not self.answer.done():
            self.answer.set_result(appended)

    def failed(self, error: Exception) -> None:
        """Answer with an error, if somebody still listens."""
        if not self.answer.done():
            self.answer.set_exception(error)

    def enter(self) -> None:
        """Have room by now."""
        if self.patience is not None:
            self.patience.cancel()
            self.patience = None


Line = deque[Waiting]


@dataclass(slots=True)
class Queue:
    """What waits, inside and outside."""

    bounds: Bounds = field(default_factory=Bounds)
    appends: int = 0
    size: int = 0
    _inside: dict[str, Line] = field(default_factory=dict)
    _outside: dict[str, Line] = field(default_factory=dict)
    _short: bool = False  # of room for anybody, not only for those whose line is full

    def put(self, append: Append) -> Waiting:
        """Take an append, inside where there is room."""
        loop = asyncio.get_running_loop()
        size = sum(len(event.payload) for event in append.events)
        waiting = Waiting(append, size, loop.create_future(), monotonic())
        if append.session_id not in self._outside and not self._short and self._lets_in(waiting):
            self._enter(waiting)
        else:
            self._outside.setdefault(append.session_id, deque()).append(waiting)
            waiting.patience = loop.call_later(self.bounds.outside_seconds, self._turn_away, waiting)
        return waiting

    def next_batch(self) -> list[Waiting]:
        """Take one append of each session, in order, up to the bounds of one transaction."""
        batch: list[Waiting] = []
        size = 0
        for session_id in [*islice(self._inside, self.bounds.batch_appends)]:
            if size >= self.bounds.batch_bytes:
                break
            line = self._inside.pop(session_id)
            batch.append(line.popleft())
            size += batch[-1].size
            if line:
                self._inside[session_id] = line  # behind the others
        self.appends -= len(batch)
        self.size -= size
        self._let_in()
        return batch

    def everybody(self) -> list[Waiting]:
        """Take whatever waits, inside and outside."""
        taken = [waiting for lines in (self._inside, self._outside) for line in lines.values() for waiting in line]
        for waiting in taken:
            waiting.enter()
        self._inside.clear()
        self._outside.clear()
        self.appends, self.size, self._short = 0, 0, False
        return taken

    def _lets_in(self, waiting: Waiting) -> bool:
        """Tell whether there is room, and whether it is missed by everybody."""
        bounds = self.bounds
        fits = self.appends < bounds.appends and self.size + waiting.size <= bounds.bytes
        self._short = not fits and self.appends > 0  # what is too large for any queue has it for itself
        line = self._inside.get(waiting.append.session_id, ())
        return not self._short and len(line) < bounds.appends_of_one_session

    def _enter(self, waiting: Waiting) -> None:
        self._inside.setdefault(waiting.append.session_id, deque()).append(waiting)
        self.appends += 1
        self.size += waiting.size
        waiting.enter()

    def _let_in(self) -> None:
        """Let in from outside whom there is room for by now, a session at a time."""
        self._short = False
        for session_id in [*self._outside]:
            line = self._outside[session_id]
            while line and (line[0].answer.done() or self._lets_in(line[0])):
                waiting = line.popleft()
                if waiting.answer.done():
                    waiting.enter()  # it gave up
                else:
                    self._enter(waiting)
            if not line:
                del self._outside[session_id]
            if self._short:
                return

    def _turn_away(self, waiting: Waiting) -> None:
        waiting.patience = None
        line = self._outside[waiting.append.session_id]
        line.remove(waiting)
        if not line:
            del self._outside[waiting.append.session_id]
        waiting.failed(
            StoreUnavailable(
                f"more is to be committed than the database takes; waited {self.bounds.outside_seconds:g} s",
                retry_delay=timedelta(seconds=2),
            )
        )
