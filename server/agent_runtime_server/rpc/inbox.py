"""The way in of a stream: frames that its reader takes one at a time, and some that are seen to in passing.

grpc.aio wakes the reader for each frame, by coroutines of its own. What idle streams send needs no reader.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

import grpc.aio
from grpc._cython import cygrpc

from agent_runtime_server.rpc.batches import EXECUTE, Execute, Way

T = TypeVar("T")


class Inbox(Way, Generic[T]):
    """The frames of a stream as they come; none is read before it is asked for, and none is kept behind the next.

    The first is read by grpc.aio's `read`, which tells the call; the others straight from it. While the reader waits
    `in_passing` is shown each frame first, and the reader never hears of those to which that has seen.
    """

    __slots__ = ("_in_passing", "_operation", "_parse", "_read", "_waiter")

    def __init__(
        self,
        read: Callable[[], Awaitable[Any]],
        parse: Callable[[bytes], T],
        in_passing: Callable[[T], bool],
        how: Execute = EXECUTE,
    ) -> None:
        super().__init__(how)
        self._read = read
        self._parse = parse
        self._in_passing = in_passing
        self._operation: Any = None  # what reads the next frame
        self._waiter: asyncio.Future[T | None] | None = None

    def __aiter__(self) -> "Inbox[T]":
        return self

    async def __anext__(self) -> T:
        frame = await (self._first() if self._call is None else self._next())
        if frame is None:
            raise StopAsyncIteration
        return frame

    async def _first(self) -> T | None:
        frame: Any = await self._introduced(self._read())
        return None if frame is grpc.aio.EOF else frame

    async def _next(self) -> T | None:
        self._waiter = self._loop.create_future()
        try:
            self._begin()
            return await self._waiter
        finally:
            self._waiter = None

    def _begin(self) -> None:
        """Read the next frame, unless that is under way for a reader who has gone."""
        if self._operation is not None:
            return
        self._operation = cygrpc.ReceiveMessageOperation(0)
        try:
            self._begin_batch(self._operation)
        except cygrpc.ExecuteBatchError as error:
            self.set_exception(error)

    def set_result(self, _result: None) -> None:
        """See to a frame, or hand it to who waits."""
        data, self._operation = self._operation.message(), None
        if self._waiter is None or self._waiter.done():
            return
        try:
            frame = None if data is None else self._parse(data)
            if frame is not None and self._in_passing(frame):
                self._begin()
            else:
                self._waiter.set_result(frame)
        except Exception as error:  # noqa: BLE001 - the reader is told
            self._waiter.set_exception(error)

    def set_exception(self, _error: Exception) -> None:
        """End: a call from which nothing can be read brings no more frames."""
        self._operation = None
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
