"""One stream's way out: events in order without a gap, and what is ephemeral beside them.

A feed replays the log at its reader's pace, then goes live: the session hands it each commit. A reader that cannot
keep up is not queued for: the feed drops what it held and reads the log again from where the reader is, and text that
is still being written comes as one replacing delta.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from google.protobuf.timestamp_pb2 import Timestamp

from agent_runtime import v1
from agent_runtime_server.core.errors import ServiceError, StoreUnavailable
from agent_runtime_server.engine.position import compacted
from agent_runtime_server.stores.base import StoredEvent

_MOST_ITEMS: Final = 1024
_MOST_BYTES: Final = 256 << 10
_MOST_CONTROLS: Final = 256
_PAGE: Final = 200
_RETRY_SECONDS: Final = (0.5, 1.5)

Ephemeral = v1.MessageDelta | v1.ToolProgress | v1.TurnNotice
Control = v1.FrameAck | v1.Heartbeat | v1.CaughtUp | v1.GoAway
Item = StoredEvent | Ephemeral | Control


class Source(Protocol):
    """The session a feed follows."""

    @property
    def head_seq(self) -> int:
        """Highest committed seq that is known here."""
        ...

    def recent(self, after_seq: int) -> Sequence[StoredEvent] | None:
        """Return the events behind `after_seq` when they are at hand, else None."""
        ...

    def texts(self) -> Iterable[v1.MessageDelta]:
        """Return the text so far of every message being written, as replacing deltas."""
        ...

    def at_rest(self) -> bool:
        """Tell whether nothing more is to come without a client frame."""
        ...


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a reader asked for."""

    after_seq: int
    ephemeral: bool = True
    most_unacked: int = 0
    kinds: Collection[int] | None = None  # of events, None for all
    progress: bool = True  # reports on tools, beside text


class Feed:
    """A reader of one session; iterate it to get what to send."""

    def __init__(
        self,
        source: Source,
        read: Callable[[int, int], Awaitable[Sequence[StoredEvent]]],
        wanted: Wanted,
    ) -> None:
        self.client_id = ""
        self.executes = False
        self.reads = False  # whether frames come in too, so that silence means something
        self.opened = self.last_sent = self.last_received = time.monotonic()
        self.share_of_age = random.uniform(0.9, 1)  # noqa: S311 - so that streams do not all come back at once
        self.told_to_leave = False
        self._source = source
        self._read = read
        self._wanted = wanted
        self._sent_seq = wanted.after_seq
        self._acked_seq = wanted.after_seq
        self._live = False
        self._caught_up = False
        self._half_closed = False
        self._queue: deque[Item] = deque()
        self._queued_bytes = 0
        self._controls: deque[Control] = deque()
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._end: ServiceError | None = None

    def offer(self, items: Iterable[Item]) -> None:
        """Take what the session has to show now; called in the order of commits."""
        if self._live:
            for item in items:
                self._enqueue(item)
            if len(self._queue) > _MOST_ITEMS or self._queued_bytes > _MOST_BYTES:
                self._fall_behind()
        self._wake.set()

    def _enqueue(self, item: Item) -> None:
        if isinstance(item, StoredEvent):
            self._queued_bytes += len(item.payload)
        elif not self._wanted.ephemeral or (isinstance(item, v1.ToolProgress) and not self._wanted.progress):
            return
        else:
            self._queued_bytes += 64 + len(item.text) if isinstance(item, v1.MessageDelta | v1.ToolProgress) else 64
        self._queue.append(item)

    def _fall_behind(self) -> None:
        self._live = False
        self._queue.clear()
        self._queued_bytes = 0

    def catch_up(self) -> None:
        """Read the log for what the session could not hand over."""
        self._fall_behind()
        self._wake.set()

    def answer(self, control: Control) -> None:
        """Send a control frame behind the events that are out already; never dropped."""
        self._controls.append(control)
        if len(self._controls) >= _MOST_CONTROLS:
            self._room.clear()
        self._wake.set()

    async def room(self) -> None:
        """Wait until the reader has taken enough answers for more; who takes frames waits here before the next one."""
        await self._room.wait()

    def acknowledge(self, seq: int) -> None:
        """Note that the reader has processed events up to `seq`."""
        self._acked_seq = max(self._acked_seq, seq)
        self._wake.set()

    @property
    def half_closed(self) -> bool:
        """Whether the reader will send nothing more."""
        return self._half_closed

    def half_close(self) -> None:
        """End well as soon as nothing more is to come."""
        self._half_closed = True
        self._wake.set()

    def end(self, error: ServiceError) -> None:
        """End the stream with an error, at once."""
        self._end = self._end or error
        self._wake.set()

    async def __aiter__(self) -> AsyncIterator[Item]:
        while True:
            self._wake.clear()
            if self._end is not None:
                raise self._end
            sent = False
            async for item in self._available():
                sent = True
                if self._hides(item):
                    continue
                self.last_sent = time.monotonic()
                yield item
                if self._end is not None:
                    raise self._end
            if sent:
                continue
            if self._half_closed and self._live and self._source.at_rest():
                return
            await self._wake.wait()

    def _hides(self, item: Item) -> bool:
        kinds = self._wanted.kinds
        return kinds is not None and isinstance(item, StoredEvent) and item.kind not in kinds

    async def _available(self) -> AsyncIterator[Item]:
        """Yield what can be sent now: the log or what is queued, then control frames."""
        if self._live:
            while self._queue and not self._holds_back(self._queue[0]):
                item = self._queue.popleft()
                if isinstance(item, StoredEvent):
                    self._queued_bytes -= len(item.payload)
                    if item.seq <= self._sent_seq:
                        continue
                    if item.seq != self._sent_seq + 1:
                        self._fall_behind()
                        self._wake.set()
                        return
                    self._sent_seq = item.seq
                yield item
            if not self._queue:
                self._queued_bytes = 0
        else:
            async for event in self._replay():
                yield event
        while self._controls:
            control = self._controls.popleft()
            if len(self._controls) < _MOST_CONTROLS:
                self._room.set()
            yield control

    def _holds_back(self, item: Item) -> bool:
        """Tell whether the reader must acknowledge before this event is sent."""
        most = self._wanted.most_unacked
        return bool(most) and isinstance(item, StoredEvent) and item.seq - self._acked_seq > most

    async def _replay(self) -> AsyncIterator[Item]:
        """Yield the next page of the log; at its head go live, without a moment in which a commit could be missed."""
        limit = _PAGE
        if self._wanted.most_unacked:
            limit = min(limit, self._wanted.most_unacked - (self._sent_seq - self._acked_seq))
            if limit <= 0 and self._sent_seq < self._source.head_seq:
                return
        page = self._source.recent(self._sent_seq)
        if page is None:
            try:
                page = await self._read(self._sent_seq, limit)
            except StoreUnavailable:  # the stream stays, and looks again; not at the moment at which all others do
                delay = random.uniform(*_RETRY_SECONDS)  # noqa: S311 - as said
                asyncio.get_running_loop().call_later(delay, self._wake.set)
                return
        if page and page[0].seq != self._sent_seq + 1:  # compaction has overtaken this reader
            raise compacted(page[0].seq, self._source.head_seq)
        for event in page[:limit]:
            self._sent_seq = event.seq
            yield event
        if self._sent_seq >= self._source.head_seq:
            self._live = True
            texts = [*self._source.texts()] if self._wanted.ephemeral else []
            if not self._caught_up:
                self._caught_up = True
                yield v1.CaughtUp(head_seq=self._sent_seq)
            for delta in texts:
                yield delta

    def beat(self, heartbeat_seconds: float) -> None:
        """Queue a heartbeat if nothing was sent for that long."""
        if time.monotonic() - self.last_sent >= heartbeat_seconds:
            self.last_sent = time.monotonic()
            self.answer(heartbeat(self._source.head_seq))


def heartbeat(head_seq: int, nonce: int = 0) -> v1.Heartbeat:
    """Return a heartbeat of now."""
    moment = Timestamp()
    moment.GetCurrentTime()
    return v1.Heartbeat(head_seq=head_seq, server_time=moment, ping_nonce=nonce)
