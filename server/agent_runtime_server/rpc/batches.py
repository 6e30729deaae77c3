"""gRPC's batches of operations, each seen to its end.

grpc.aio leaks batches whose waiter is cancelled, and failed ones.

It frees what it has made of a batch, and the message that came with it, only where somebody still waits and nothing
failed. So every stream that broke off while it was read or written, and every answer to a client that had left, stayed
for ever, often with the 64 KiB that were read from the connection together with it.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import ContextVar
from typing import Any, Final, Protocol, TypeVar, cast

from grpc._cython import cygrpc

T = TypeVar("T")
Execute = Callable[[Any, Any, Any], Coroutine[Any, None, None]]

EXECUTE: Final = cast("Execute", cygrpc.execute_batch)
"""As grpc.aio does it; taken before it is replaced."""


class Waiter(Protocol):
    """Wants to know how a batch ended; a future does."""

    def done(self) -> bool:
        """Tell whether it wants to know no more."""
        ...

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the event loop on which it waits."""
        ...

    def set_result(self, result: None, /) -> None:
        """Note that the batch has ended well."""
        ...

    def set_exception(self, error: Exception, /) -> None:
        """Note that it has failed."""
        ...


class Batch:
    """Goes on with grpc.aio's own coroutine when a batch has ended; stands for its event loop and for its future."""

    __slots__ = ("_running", "_waiter")

    def __init__(self, waiter: Waiter, execute: Execute, call: object, operations: object) -> None:
        self._waiter = waiter
        self._running = execute(call, operations, self)
        self._running.send(None)

    def create_future(self) -> "Batch":
        """Stand for the future that gRPC makes."""
        return self

    def __await__(self) -> Generator[None, None, None]:
        yield

    def call_soon_threadsafe(self, callback: Callable[..., object], *arguments: object) -> None:
        """Let gRPC say how the batch ended; at once, where that is on the event loop of whoever waits."""
        loop = self._waiter.get_loop()
        if asyncio.get_running_loop() is loop:
            callback(*arguments)
        else:
            loop.call_soon_threadsafe(callback, *arguments)

    def cancelled(self) -> bool:
        """Tell gRPC that it is always wanted to say how the batch ended."""
        return False

    def set_result(self, result: None) -> None:
        """Note that the batch has ended well."""
        self._end()
        if not self._waiter.done():
            self._waiter.set_result(result)

    def set_exception(self, error: Exception) -> None:
        """Note that it has failed."""
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


class Way(ABC):
    """One direction of a stream: by its first batch, grpc.aio's own, it meets the call; the others it begins itself.

    It waits for these, of which there is one at a time.
    """

    __slots__ = ("_call", "_how", "_loop")

    def __init__(self, how: Execute) -> None:
        self._how = how
        self._loop = asyncio.get_running_loop()
        self._call: object = None

    async def _introduced(self, first: Awaitable[T]) -> T:
        """Let grpc.aio read or write what comes first."""
        token = introducing.set(self)
        try:
            return await first
        finally:
            introducing.reset(token)

    def meet(self, call: object) -> None:
        """Take note of the call."""
        self._call = call

    def done(self) -> bool:
        """Tell a batch that it is always wanted to say how it ended."""
        return False

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the event loop on which all of this happens."""
        return self._loop

    @abstractmethod
    def set_result(self, result: None, /) -> None:
        """Note that the batch under way has ended well."""

    @abstractmethod
    def set_exception(self, error: Exception, /) -> None:
        """Note that it has failed."""

    def _begin_batch(self, operation: object) -> None:
        Batch(self, self._how, self._call, (operation,))


introducing: Final[ContextVar[Way | None]] = ContextVar("introducing", default=None)
"""What has to meet the call on which the present task begins a batch."""


def execute(
    call: object, operations: tuple[Any, ...], loop: asyncio.AbstractEventLoop, how: Execute = EXECUTE
) -> "asyncio.Future[None]":
    """Begin a batch and return what waits for it; the batch goes on when that is cancelled."""
    stranger = introducing.get()
    if stranger is not None:
        stranger.meet(call)
    return _begun(call, operations, loop, how)


def _begun(
    call: object, operations: tuple[Any, ...], loop: asyncio.AbstractEventLoop, how: Execute
) -> "asyncio.Future[None]":
    waiter = loop.create_future()
    Batch(waiter, how, call, operations)
    return waiter
