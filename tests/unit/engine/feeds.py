"""A log that feeds follow, and readers who take what they are let."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

from agent_runtime import v1
from agent_runtime_server.core.errors import ServiceError, StoreUnavailable
from agent_runtime_server.engine.feed import Feed, Item, Wanted
from agent_runtime_server.stores.base import StoredEvent
from enginekit.turns import turns

BIG = b"x" * 100_000  # three of them are more than a feed holds for its reader


class Log:
    """A session with its log: knows the last few events by heart, and reads the others when its gate is open."""

    def __init__(self, events: int = 0, *, at_hand: int = 3) -> None:
        self.events: list[StoredEvent] = []
        self.feeds: list[Feed] = []
        self.text = ""
        self.resting = False
        self.away = False
        self.reads: list[tuple[int, int]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self._at_hand = at_hand
        self.commit(events)

    @property
    def head_seq(self) -> int:
        return len(self.events)

    def recent(self, after_seq: int) -> Sequence[StoredEvent] | None:
        missing = self.events[after_seq:]
        return missing if len(missing) <= self._at_hand else None

    def texts(self) -> Iterable[v1.MessageDelta]:
        return [delta(self.text, replace=True)] if self.text else []

    def at_rest(self) -> bool:
        return self.resting

    async def read(self, after_seq: int, limit: int) -> Sequence[StoredEvent]:
        self.reads.append((after_seq, limit))
        await self.gate.wait()
        if self.away:
            raise StoreUnavailable("away")
        return self.events[after_seq : after_seq + limit]

    def commit(self, count: int = 1, payload: bytes = b"x") -> None:
        events = [StoredEvent(self.head_seq + number, 1, payload) for number in range(1, count + 1)]
        self.events += events
        for feed in self.feeds:
            feed.offer(events)

    def write(self, text: str) -> None:
        self.text += text
        for feed in self.feeds:
            feed.offer([delta(text)])

    def feed(self, after_seq: int = 0, *, ephemeral: bool = True, most_unacked: int = 0) -> Feed:
        feed = Feed(self, self.read, Wanted(after_seq, ephemeral, most_unacked))
        self.feeds.append(feed)
        return feed


class Reader:
    """Takes items one by one, as many as it is let."""

    def __init__(self, feed: Feed) -> None:
        self.items: list[Item] = []
        self.error: ServiceError | None = None
        self._ended = False
        self._feed = feed
        self._may_take = 0
        self._may = asyncio.Event()

    async def run(self) -> None:
        await self._until_it_may()
        try:
            async for item in self._feed:
                self.items.append(item)
                await self._until_it_may()
        except ServiceError as error:
            self.error = error
        self._ended = True

    async def _until_it_may(self) -> None:
        while not self._may_take:
            self._may.clear()
            await self._may.wait()
        self._may_take -= 1

    def has_ended(self) -> bool:
        return self._ended

    async def read(self, count: int = 1000) -> None:
        """Let the reader take this many more items, and see how far it comes."""
        self._may_take += count
        self._may.set()
        await turns()

    @property
    def seqs(self) -> list[int]:
        return [item.seq for item in self.items if isinstance(item, StoredEvent)]

    @property
    def told(self) -> list[str]:
        """Everything, in words: events by their seq, text by itself."""
        return [tell(item) for item in self.items]


@asynccontextmanager
async def reading(feed: Feed) -> AsyncIterator[Reader]:
    reader = Reader(feed)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(reader.run())
        yield reader
        task.cancel()


def delta(text: str, *, replace: bool = False) -> v1.MessageDelta:
    return v1.MessageDelta(text=text, replace=replace)


def tell(item: Item) -> str:
    match item:
        case StoredEvent():
            return str(item.seq)
        case v1.MessageDelta():
            return f"={item.text}" if item.replace else f"+{item.text}"
        case v1.CaughtUp():
            return f"caught up {item.head_seq}"
        case _:
            return type(item).__name__
