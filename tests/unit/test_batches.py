"""What gRPC has read for somebody who waits no more is freed, and what may wait for what follows is marked so."""

import asyncio
import ctypes
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import grpc.aio
import pytest
from grpc._cython import cygrpc

from agent_runtime_server.rpc import batches
from agent_runtime_server.rpc.aio_server import AioServer

_MESSAGE = bytes(1 << 20)
_STREAMS = 20

_COUNTED = ["arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"]


class _Allocated(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in _COUNTED]


def allocated() -> int:
    """Return how many bytes C code has asked for and not given back."""
    ask = ctypes.CDLL(None).mallinfo2
    ask.restype = _Allocated
    told = ask()
    return int(told.uordblks + told.hblkhd)


class Impatient:
    """Waits for a message no more before it comes, and ends when it has been sent."""

    def __init__(self) -> None:
        self.left = asyncio.Event()
        self.sent = asyncio.Event()

    async def handle(self, _requests: object, context: Any) -> AsyncIterator[bytes]:
        with suppress(TimeoutError):
            async with asyncio.timeout(0.001):
                await context.read()
        self.left.set()
        await self.sent.wait()
        yield b"enough"


@pytest.fixture
async def impatient() -> AsyncIterator[tuple[Impatient, grpc.aio.Channel]]:
    method, server = Impatient(), AioServer([("grpc.max_receive_message_length", -1)])
    handler: Any = grpc.stream_stream_rpc_method_handler(method.handle)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Test", {"Talk": handler})])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield method, channel
    await server.stop(0)


async def talk(method: Impatient, channel: grpc.aio.Channel) -> None:
    method.left.clear()
    method.sent.clear()
    call: Any = channel.stream_stream("/test.Test/Talk")()
    await method.left.wait()
    await call.write(_MESSAGE)
    method.sent.set()
    assert await call.read() == b"enough"
    assert await call.read() is grpc.aio.EOF


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc tells what it has given out")
async def test_a_message_that_comes_too_late_is_not_kept(impatient: tuple[Impatient, grpc.aio.Channel]) -> None:
    await talk(*impatient)
    before = allocated()
    for _ in range(_STREAMS):
        await talk(*impatient)
    assert allocated() - before < _STREAMS * len(_MESSAGE) // 4


async def flags_of(*operations: Any) -> list[int]:
    """Return with which flags operations are handed to gRPC."""
    begun: list[Any] = []

    async def begin(_call: object, operations: Any, batch: Any) -> None:
        begun.extend(operations)
        await batch

    batches.execute(None, operations, asyncio.get_running_loop(), begin)
    return [operation._flags for operation in begun]


@pytest.mark.parametrize(("more", "flags"), [(False, [8]), (True, [8 | cygrpc.WriteFlag.buffer_hint])])
async def test_a_message_may_wait_when_more_follows(more: bool, flags: list[int]) -> None:
    batches.more_follows.set(more)
    assert await flags_of(cygrpc.SendMessageOperation(b"text", 8)) == flags


async def test_the_end_of_a_stream_waits_for_nothing() -> None:
    batches.more_follows.set(True)
    status = cygrpc.SendStatusFromServerOperation((), 0, b"", 0)
    assert await flags_of(cygrpc.SendMessageOperation(b"text", 0), status) == [0, 0]
