"""What was received and not yet taken by the application: bounded, in order."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

_Item = TypeVar("_Item")


class Mailbox(Generic[_Item]):
    """A queue whose writer waits while it is full, unless its reader may be waiting for the writer."""

    def __init__(self, limit: int = 256) -> None:
        self._limit = limit
        self._items: deque[_Item] = deque()
        self._filled = asyncio.Event()
        self._room = asyncio.Event()
        self._hurried = 0
        self._closed = False
        self._error: BaseException | None = None

    @contextmanager
    def unbounded(self) -> Iterator[None]:
        """Lift the limit: whoever waits for an ack may be the very one who empties the box."""
        self._hurried += 1
        self._room.set()
        try:
            yield
        finally:
            self._hurried -= 1

    async def put(self, item: _Item) -> None:
        """Add `item` when there is room."""
        while len(self._items) >= self._limit and not self._hurried and not self._closed:
            self._room.clear()
            await self._room.wait()
        self._add(item)

    def offer(self, item: _Item) -> None:
        """Add `item`, or drop it when the box is full."""
        if len(self._items) < self._limit:
            self._add(item)

    def merge(self, join: Callable[[_Item], _Item | None]) -> bool:
        """Replace the newest item by what `join` makes of it; False when it makes nothing."""
        if not self._items or (joined := join(self._items[-1])) is None:
            return False
        self._items[-1] = joined
        return True

    def close(self, error: BaseException | None = None) -> None:
        """End the reader after what is in the box, with `error` if there is one."""
        if not self._closed:
            self._closed, self._error = True, error
        self._filled.set()
        self._room.set()

    async def take(self) -> _Item:
        """Return the oldest item; raise StopAsyncIteration or the error at the end."""
        while not self._items:
            if self._closed:
                raise self._error or StopAsyncIteration
            self._filled.clear()
            await self._filled.wait()
        self._room.set()
        return self._items.popleft()

    def _add(self, item: _Item) -> None:
        if not self._closed:
            self._items.append(item)
            self._filled.set()
