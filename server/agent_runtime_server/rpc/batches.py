"""gRPC's batches of operations, each seen to its end, and frames that leave together.

grpc.aio leaks batches whose waiter is cancelled, and failed ones.

It frees what it has made of a batch, and the message that came with it, only where somebody still waits and nothing
failed. So every stream that broke off while it was read or written, and every answer to a client that had left, stayed
for ever, often with the 64 KiB that were read from the connection together with it.

And it has no way to say that a frame need not leave by itself, because another one follows at once, nor to write one
without waiting for it: an `Outbox` does both.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from contextvars import ContextVar
from typing import Any, Final, Protocol, cast

from grpc._cython import cygrpc

Execute = Callable[[Any, Any, Any], Coroutine[Any, None, None]]

_EXECUTE: Final = cast("Execute", cygrpc.execute_batch)


class _Waiter(Protocol):
    """Wants to know how a batch ended; a future does."""

    def done(self) -> bool: ...

    def get_loop(self) -> asyncio.AbstractEventLoop: ...

    def set_result(self, result: None, /) -> None: ...

    def set_exception(self, error: Exception, /) -> None: ...


class Outbox:
    """The way out of one stream: frames that are written together, and now and then one that slips in between.

    The first goes by grpc.aio's `write`, which tells the call; the others go straight to it, for what that does besides
    for each message has been done. Each is begun where the one before has ended, without the writer, who waits for all.
    """

    __slots__ = ("_call", "_done", "_error", "_how", "_left", "_loop", "_serialise", "_under_way", "_write")

    def __init__(
        self,
        write: Callable[[Any], Awaitable[None]],
        serialise: Callable[[Any], bytes],
        how: Execute = _EXECUTE,
    ) -> None:
        self._write = write
        self._serialise = serialise
        self._how = how
        self._loop = asyncio.get_running_loop()
        self._call: object = None
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
                await self._introduce(self._left.pop())
            self._go_on()
            await self.flush()
        finally:
            self._left.clear()

    async def _introduce(self, frame: object) -> None:
        token = introducing.set(self)
        try:
            await self._write(frame)
        finally:
            introducing.reset(token)

    def meet(self, call: object) -> None:
        """Take note of the call to which frames are written."""
        self._call = call

    def _begin(self, frame: object, *, held: bool = False) -> None:
        flags = cygrpc.WriteFlag.buffer_hint if held else 0
        _Batch(self, self._how, self._call, (cygrpc.SendMessageOperation(self._serialise(frame), flags),))
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

    def done(self) -> bool:
        """Tell a batch that it is always wanted to say how it ended."""
        return False

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the event loop on which all of this happens."""
        return self._loop

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


introducing: Final[ContextVar[Outbox | None]] = ContextVar("introducing", default=None)
"""What has to meet the call on which the present task begins a batch."""


class _Batch:
    """Goes on with grpc.aio's own coroutine when a batch has ended; stands for its event loop and for its future."""

    __slots__ = ("_running", "_waiter")

    def __init__(self, waiter: _Waiter, execute: Execute, call: object, operations: object) -> None:
        self._waiter = waiter
        self._running = execute(call, operations, self)
        self._running.send(None)

    def create_future(self) -> "_Batch":
        return self

    def __await__(self) -> Generator[None, None, None]:
        yield

    def call_soon_threadsafe(self, callback: Callable[..., object], *arguments: object) -> None:
        loop = self._waiter.get_loop()
        if asyncio.get_running_loop() is loop:
            callback(*arguments)
        else:
            loop.call_soon_threadsafe(callback, *arguments)

    def cancelled(self) -> bool:
        """Tell gRPC that it is always wanted to say how the batch ended."""
        return False

    def set_result(self, result: None) -> None:
        self._end()
        if not self._waiter.done():
            self._waiter.set_result(result)

    def set_exception(self, error: Exception) -> None:
        self._end()
        if not self._waiter.done():
            self._waiter.set_exception(error)

    def _end(self) -> None:
        """Let it take what has come and free the rest, however the batch has ended."""
        try:
            self._running.send(None)
        except StopIteration:
            return
        raise RuntimeError("grpc.aio waits for more than the end of a batch")


def execute(
    call: object, operations: tuple[Any, ...], loop: asyncio.AbstractEventLoop, how: Execute = _EXECUTE
) -> "asyncio.Future[None]":
    """Begin a batch and return what waits for it; the batch goes on when that is cancelled."""
    out = introducing.get()
    if out is not None:
        out.meet(call)
    return _begun(call, operations, loop, how)


def _begun(
    call: object, operations: tuple[Any, ...], loop: asyncio.AbstractEventLoop, how: Execute
) -> "asyncio.Future[None]":
    waiter = loop.create_future()
    _Batch(waiter, how, call, operations)
    return waiter
