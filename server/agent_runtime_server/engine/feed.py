"""One stream's way out: events in order without a gap, and what is ephemeral beside them.

A feed replays the log at its reader's pace, then goes live: the session hands it each commit. A reader that cannot
keep up is not queued for: the feed drops what it held and reads the log again from where the reader is, and text that
is still being written comes as one replacing delta.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Final, Protocol

from agent_runtime import v1
from agent_runtime_server.core import clock
from agent_runtime_server.core.errors import ServiceError, StoreUnavailable
from agent_runtime_server.engine.bell import Bell
from agent_runtime_server.engine.position import compacted
from agent_runtime_server.engine.watch import Watch
from agent_runtime_server.stores.base import StoredEvent

_MOST_ITEMS: Final = 1024
_MOST_BYTES: Final = 256 << 10
_MOST_CONTROLS: Final = 256
_MOST_PINGS: Final = 8
_PAGE: Final = 200
_ROUNDS_TO_ANSWER: Final = 3  # of the event loop, from a commit's showing to its answer
_MOST_IN_BURST: Final = 32
_MOST_BURST_BYTES: Final = 16 << 10
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

    def texts(self) -> Iterable["Ephemeral"]:
        """Return the text so far of every message being written, as replacing deltas, and what holds it up."""
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


@dataclass(frozen=True, slots=True)
class Seat:
    """A client's place on a session; `nanos` says since when, by the database's clock."""

    client_id: str
    executes: bool
    nanos: int

    def replaces(self, other: "Seat") -> bool:
        """Tell whether an older place is void: the client's own, or that of another executor."""
        return self.client_id == other.client_id or (self.executes and other.executes)


class Feed:
    """A reader of one session; iterate it, or its bursts, to get what to send."""

    def __init__(
        self,
        source: Source,
        read: Callable[[int, int], Awaitable[Sequence[StoredEvent]]],
        wanted: Wanted,
    ) -> None:
        self.seat: Seat | None = None
        self.reads = False  # whether frames come in too, so that silence means something
        self.opened = self.last_sent = self.last_received = time.monotonic()
        self.share_of_age = random.uniform(0.9, 1)  # noqa: S311 - so that streams do not all come back at once
        self.told_to_leave = False
        self.taking = False  # a frame of the reader's, so that its answer may follow what it brings
        self.due = -1  # the slot of its watch in which somebody has to look after it
        self.watch: Watch | None = None  # who does
        self.slip_in: Callable[[Control], bool] | None = None  # sends something while the reader waits, if it can be
        self._pings: tuple[int, ...] = ()
        self._source = source
        self._read = read
        self._wanted = wanted
        self._sent_seq = wanted.after_seq
        self._acked_seq = wanted.after_seq
        self._live = False
        self._caught_up = False
        self._half_closed = False
        self._queue: list[Item] = []  # a deque would be ten times as large while it is empty, which it mostly is
        self._queued_bytes = 0
        self._controls: list[Control] = []
        self._wake = Bell()
        self._room = Bell()
        self._end: ServiceError | None = None

    def offer(self, items: Iterable[Item]) -> None:
        """Take what the session has to show now; called in the order of commits."""
        if self._live:
            for item in items:
                self._enqueue(item)
            if len(self._queue) > _MOST_ITEMS or self._queued_bytes > _MOST_BYTES:
                self._fall_behind()
        self._wake.ring()

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

    @property
    def queued_bytes(self) -> int:
        """Size of what waits for the reader, which is bounded."""
        return self._queued_bytes

    def catch_up(self) -> None:
        """Read the log for what the session could not hand over."""
        self._fall_behind()
        self._wake.ring()

    def answer(self, control: Control) -> None:
        """Send a control frame behind the events that are out already; never dropped."""
        self._controls.append(control)
        self._wake.ring()

    @property
    def crowded(self) -> bool:
        """Whether the reader must take answers before there is room for more."""
        return len(self._controls) >= _MOST_CONTROLS

    async def room(self) -> None:
        """Wait while it is crowded; who takes frames waits here before the next one."""
        while self.crowded:
            self._room.silence()
            await self._room.wait()

    def acknowledge(self, seq: int) -> None:
        """Note that the reader has processed events up to `seq`."""
        self._acked_seq = max(self._acked_seq, seq)
        self._wake.ring()

    @property
    def half_closed(self) -> bool:
        """Whether the reader will send nothing more."""
        return self._half_closed

    def half_close(self) -> None:
        """End well as soon as nothing more is to come; of a reader who has said all, silence means nothing."""
        self._half_closed = True
        self.reads = False
        self._wanted = replace(self._wanted, most_unacked=0)
        self._answer_pings()
        self._wake.ring()

    def end(self, error: ServiceError) -> None:
        """End the stream with an error, at once."""
        self._end = self._end or error
        self._wake.ring()

    async def __aiter__(self) -> AsyncIterator[Item]:
        async for burst in self.bursts():
            for item in burst:
                yield item
                self._check_end()

    async def bursts(self) -> AsyncIterator[list[Item]]:
        """Yield what there is to send, as much at a time as can go out together."""
        while True:
            self._wake.silence()
            self._check_end()
            before, sent = self._sent_seq, False
            page = () if self._live else _together(filter(self._shows, await self._replay()))
            for burst in chain(page, iter(self._burst, [])):
                sent = True
                self.last_sent = time.monotonic()
                yield burst
                self._check_end()
            if self._live or (not sent and self._sent_seq == before):
                if self._half_closed and self._live and self._source.at_rest():
                    return
                await self._wake.wait()
                if self.taking:
                    await self._answered()

    async def _answered(self) -> None:
        """Let the answer to a frame come, which follows what the frame has brought, so that both leave together."""
        for _ in range(_ROUNDS_TO_ANSWER):
            if self._controls:
                return
            await asyncio.sleep(0)

    def _check_end(self) -> None:
        if self._end is not None:
            raise self._end

    def _shows(self, item: Item) -> bool:
        """Tell whether the reader asked for it."""
        kinds = self._wanted.kinds
        return kinds is None or not isinstance(item, StoredEvent) or item.kind in kinds

    def _burst(self) -> list[Item]:
        """Take what can be sent now, as far as it goes out together."""
        burst: list[Item] = []
        size = 0
        while len(burst) < _MOST_IN_BURST and size <= _MOST_BURST_BYTES and (item := self._next()) is not None:
            if self._shows(item):
                burst.append(item)
                size += len(item.payload) if isinstance(item, StoredEvent) else 0
        return burst

    def _next(self) -> Item | None:
        """Return what can be sent now: what is queued, then control frames; an ack as soon as its event is out."""
        while self._live and self._queue:
            if self._controls and self._acks_first():
                break
            if self._wanted.most_unacked and self._holds_back(self._queue[0]):
                break
            item = self._queue.pop(0)
            if not self._queue:
                self._queued_bytes = 0
            elif isinstance(item, StoredEvent):
                self._queued_bytes -= len(item.payload)
            if not isinstance(item, StoredEvent):
                return item
            if item.seq == self._sent_seq + 1:
                self._sent_seq = item.seq
                return item
            if item.seq > self._sent_seq:
                self._fall_behind()
                self._wake.ring()
        if not self._controls:
            return None
        control = self._controls.pop(0)
        self._room.ring()
        return control

    def _acks_first(self) -> bool:
        """Tell whether an ack is due, which a stream of text must not hold up."""
        control = self._controls[0]
        return isinstance(control, v1.FrameAck) and control.seq <= self._sent_seq

    def _holds_back(self, item: Item) -> bool:
        """Tell whether the reader must acknowledge before this event is sent."""
        return isinstance(item, StoredEvent) and item.seq - self._acked_seq > self._wanted.most_unacked

    async def _replay(self) -> list[Item]:
        """Return the next page of the log; at its head go live, without a moment in which a commit could be missed."""
        limit = _PAGE
        if self._wanted.most_unacked:
            limit = min(limit, self._wanted.most_unacked - (self._sent_seq - self._acked_seq))
            if limit <= 0 and self._sent_seq < self._source.head_seq:
                return []
        page = self._source.recent(self._sent_seq)
        if page is None:
            try:
                page = await self._read(self._sent_seq, limit)
            except StoreUnavailable:  # the stream stays, and looks again; not at the moment at which all others do
                delay = random.uniform(*_RETRY_SECONDS)  # noqa: S311 - as said
                asyncio.get_running_loop().call_later(delay, self._wake.ring)
                return []
        if page and page[0].seq != self._sent_seq + 1:  # compaction has overtaken this reader
            raise compacted(page[0].seq, self._source.head_seq)
        page = page[:limit]
        items: list[Item] = [*page]
        self._sent_seq = page[-1].seq if page else self._sent_seq
        if self._sent_seq >= self._source.head_seq:
            self._live = True
            if not self._caught_up:
                self._caught_up = True
                items.append(v1.CaughtUp(head_seq=self._sent_seq))
            items.extend(self._source.texts() if self._wanted.ephemeral else ())
        return items

    def pinged(self, nonce: int) -> None:
        """Answer a ping with the next beat, when many streams write at once; sooner when they crowd."""
        self._pings += (nonce,)
        if self.watch is not None:
            self.watch.look_after(self, 0)
        if len(self._pings) > _MOST_PINGS:
            self._answer_pings()

    def beat(self, heartbeat_seconds: float) -> None:
        """Answer pings; queue a heartbeat if nothing was sent for that long."""
        if self._pings:
            self._answer_pings()
        elif time.monotonic() - self.last_sent >= heartbeat_seconds:
            self._show_life()

    def _answer_pings(self) -> None:
        for nonce in self._pings:
            self._show_life(nonce)
        self._pings = ()

    def _show_life(self, nonce: int = 0) -> None:
        """Send a heartbeat, without a wake-up of who sends the rest if that has nothing to do."""
        self.last_sent = time.monotonic()
        beat = heartbeat(self._source.head_seq, nonce)
        if self.slip_in is None or not self._wake.waited_for or not self.slip_in(beat):
            self.answer(beat)


def _together(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Yield items in lists of which each is small enough to go out at once."""
    burst: list[Item] = []
    size = 0
    for item in items:
        burst.append(item)
        size += len(item.payload) if isinstance(item, StoredEvent) else 0
        if len(burst) == _MOST_IN_BURST or size > _MOST_BURST_BYTES:
            yield burst
            burst, size = [], 0
    if burst:
        yield burst


def heartbeat(head_seq: int, nonce: int = 0) -> v1.Heartbeat:
    """Return a heartbeat of now."""
    return v1.Heartbeat(head_seq=head_seq, server_time=clock.now(), ping_nonce=nonce)
