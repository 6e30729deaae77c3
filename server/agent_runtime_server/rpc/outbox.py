"""The way out of a stream: frames that leave together, and now and then one that slips in.

grpc.aio has no way to say that a frame need not leave by itself, because another one follows at once, nor to write one
without waiting for it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from grpc._cython import cygrpc

from agent_runtime_server.rpc.batches import EXECUTE, Execute, Way


class Outbox(Way):
    """The way out of one stream: frames that are written together, and now and then one that slips in between.

    The first goes by grpc.aio's `write`, which tells the call; the others go straight to it, for what that does besides
    for each message has been done. Each is begun where the one before has ended, without the writer, who waits for all.
    """

    __slots__ = ("_done", "_error", "_left", "_serialise", "_under_way", "_write")

    def __init__(
        self,
        write: Callable[[Any], Awaitable[None]],
        serialise: Callable[[Any], bytes],
        how: Execute = EXECUTE,
    ) -> None:
        super().__init__(how)
        self._write = write
        self._serialise = serialise
        self._left: list[object] = []  # to be written, the last one first
        self._under_way = False
        self._done: asyncio.Future[None] | None = None
        self._error: Exception | None = None

    async def write(self, frames: Sequence[object]) -> None:
        """Write frames that leave together, with the last one."""
        await self.flush()
        self._left = [*reversed(frames)]
        try:
            if self._call is None:
                await self._introduced(self._write(self._left.pop()))
            self._go_on()
            await self.flush()
        finally:
            self._left.clear()

    def _begin(self, frame: object, *, held: bool = False) -> None:
        flags = cygrpc.WriteFlag.buffer_hint if held else 0
        self._begin_batch(cygrpc.SendMessageOperation(self._serialise(frame), flags))
        self._under_way = True

    def _go_on(self) -> None:
        if self._left:
            frame = self._left.pop()
            self._begin(frame, held=bool(self._left))

    async def flush(self) -> None:
        """Wait until what is under way has left; raises what went wrong."""
        if self._under_way:
            self._done = self._loop.create_future()
            await self._done
        if self._error is not None:
            raise self._error

    def slip_in(self, frame: object) -> bool:
        """Write a frame and wait for nothing, while the stream's writer has nothing to write; False if it cannot be."""
        if self._call is None or self._under_way or self._error is not None:
            return False
        try:
            self._begin(frame)
        except cygrpc.ExecuteBatchError:  # the stream has ended, as its writer is told
            return False
        return True

    def set_result(self, _result: None) -> None:
        """Note that a frame has left, and begin the next one."""
        self._under_way = False
        try:
            self._go_on()
        except Exception as error:  # noqa: BLE001 - the writer is told
            self._error = error
        if not self._under_way and self._done is not None and not self._done.done():
            self._done.set_result(None)

    def set_exception(self, error: Exception) -> None:
        """Note that a frame never will; whoever writes is told."""
        self._error = error
        self._left.clear()
        self.set_result(None)
