"""What gRPC has read for nobody is freed."""

import asyncio
import ctypes
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import grpc.aio
import pytest

from servicekit.talking import talking

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
    method = Impatient()
    async with talking(method.handle) as channel:
        yield method, channel


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
