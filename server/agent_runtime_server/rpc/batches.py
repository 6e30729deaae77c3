"""gRPC's batches of operations, each seen to its end, and frames that leave together.

grpc.aio leaks batches whose waiter is cancelled, and failed ones.

It frees what it has made of a batch, and the message that came with it, only where somebody still waits and nothing
failed. So every stream that broke off while it was read or written, and every answer to a client that had left, stayed
for ever, often with the 64 KiB that were read from the connection together with it.

And it has no way to say that a frame need not leave by itself, because another one follows at once: `more_follows`.
"""

import asyncio
from collections.abc import Callable, Coroutine, Generator
from contextvars import ContextVar
from typing import Any, Final, cast

from grpc._cython import cygrpc

Execute = Callable[[Any, Any, Any], Coroutine[Any, None, None]]

_EXECUTE: Final = cast("Execute", cygrpc.execute_batch)

more_follows: Final = ContextVar("more_follows", default=False)
"""Whether what the present task writes may wait for what it writes next, so that both leave by one system call."""


class _Batch:
    """Goes on with grpc.aio's own coroutine when a batch has ended; stands for its event loop and for its future."""

    __slots__ = ("_running", "_waiter")

    def __init__(self, waiter: "asyncio.Future[None]", execute: Execute, call: object, operations: object) -> None:
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
    if more_follows.get():
        operations = _held(operations)
    waiter = loop.create_future()
    _Batch(waiter, how, call, operations)
    return waiter


def _held(operations: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the sending of a message with leave to wait; anything else as it is."""
    if len(operations) > 1 or type(operations[0]) is not cygrpc.SendMessageOperation:
        return operations
    message, flags = operations[0]._message, operations[0]._flags  # noqa: SLF001 - there is no other way to say it
    return (cygrpc.SendMessageOperation(message, flags | cygrpc.WriteFlag.buffer_hint),)
