"""Frames are read one at a time and when they are asked for, and some are seen to in passing."""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc.aio
import pytest

from agent_runtime_server.rpc.inbox import Inbox
from servicekit.talking import talking

ASIDE = b"aside "
MANY = 40


class Reader:
    """Reads what comes until the end, or until it is told to leave off."""

    def __init__(self, parse: Callable[[bytes], bytes] = bytes) -> None:
        self.parse = parse
        self.taken: list[bytes] = []
        self.passed: list[bytes] = []
        self.refuses = False
        self.failure: Exception | None = None
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.inbox: Inbox[bytes] | None = None

    def in_passing(self, frame: bytes) -> bool:
        """See to what begins so."""
        if self.refuses or not frame.startswith(ASIDE):
            return False
        self.passed.append(frame)
        return True

    async def handle(self, _requests: object, context: Any) -> None:
        self.inbox = Inbox(context.read, self.parse, self.in_passing)
        await context.write(b"ready")
        try:
            async for frame in self.inbox:
                self.taken.append(frame)
                await context.write(frame)
                await self.go_on.wait()
        except ValueError as error:
            self.failure = error
        await context.write(b"over")


async def played(reader: Reader, play: Callable[[Any], Any]) -> list[bytes]:
    """Play a client of a reader and return what it was answered."""
    answers: list[bytes] = []
    async with talking(reader.handle) as channel:
        call: Any = channel.stream_stream("/test.Test/Talk")()
        await play(call)
        while (answer := await call.read()) is not grpc.aio.EOF:
            answers.append(answer)
    return answers


async def test_the_reader_takes_frames_in_their_order_up_to_the_end() -> None:
    reader = Reader()
    frames = [b"frame %d" % number for number in range(MANY)]

    async def play(call: Any) -> None:
        for frame in frames:
            await call.write(frame)
        await call.done_writing()

    assert await played(reader, play) == [b"ready", *frames, b"over"]
    assert reader.taken == frames
    assert not reader.passed


async def test_what_is_seen_to_in_passing_never_reaches_the_reader() -> None:
    reader = Reader()

    async def play(call: Any) -> None:
        await call.write(b"hello")
        for number in range(MANY):
            await call.write(ASIDE + b"%d" % number)
        await call.write(b"message")
        await call.done_writing()

    assert await played(reader, play) == [b"ready", b"hello", b"message", b"over"]
    assert reader.passed == [ASIDE + b"%d" % number for number in range(MANY)]


async def test_the_very_first_frame_is_the_readers_whatever_it_is() -> None:
    reader = Reader()

    async def play(call: Any) -> None:
        await call.write(ASIDE)
        await call.done_writing()

    assert await played(reader, play) == [b"ready", ASIDE, b"over"]


async def test_nothing_is_seen_to_while_the_reader_is_busy() -> None:
    reader = Reader()
    reader.go_on.clear()

    async def play(call: Any) -> None:
        await call.write(b"hello")
        await call.write(ASIDE)
        await call.done_writing()
        assert [await call.read(), await call.read()] == [b"ready", b"hello"]
        assert not reader.passed
        reader.go_on.set()

    assert await played(reader, play) == [b"over"]
    assert reader.passed == [ASIDE]


async def test_what_is_refused_in_passing_comes_to_the_reader() -> None:
    reader = Reader()
    reader.refuses = True

    async def play(call: Any) -> None:
        for frame in (b"hello", ASIDE):
            await call.write(frame)
        await call.done_writing()

    assert await played(reader, play) == [b"ready", b"hello", ASIDE, b"over"]


@pytest.mark.parametrize("aside", [True, False])
async def test_what_goes_wrong_with_a_frame_is_raised_where_it_is_read(aside: bool) -> None:
    def parse(data: bytes) -> bytes:
        if not aside and data == b"bad":
            raise ValueError("bad")
        return data

    reader = Reader(parse)
    if aside:

        def fail(frame: bytes) -> bool:
            raise ValueError(frame.decode())

        reader.in_passing = fail  # type: ignore[method-assign]

    async def play(call: Any) -> None:
        for frame in (b"hello", b"bad"):
            await call.write(frame)
        await call.done_writing()

    assert await played(reader, play) == [b"ready", b"hello", b"over"]
    assert str(reader.failure) == "bad"


async def test_a_client_that_breaks_off_is_the_end() -> None:
    reader = Reader()
    ended = asyncio.Event()

    async def handle(_requests: object, context: Any) -> None:
        try:
            await reader.handle(None, context)
        finally:
            ended.set()

    async with talking(handle) as channel:
        call: Any = channel.stream_stream("/test.Test/Talk")()
        for frame in (b"hello", ASIDE):
            await call.write(frame)
        assert [await call.read(), await call.read()] == [b"ready", b"hello"]
        call.cancel()
        await ended.wait()
    assert reader.taken == [b"hello"]
    assert reader.failure is None


async def test_a_frame_whose_reader_went_is_for_the_next_one() -> None:
    """What is under way is not begun a second time."""

    async def handle(_requests: object, context: Any) -> None:
        inbox = Inbox[bytes](context.read, bytes, lambda _frame: False)

        async def read() -> bytes:
            return await anext(inbox)

        async with asyncio.TaskGroup() as tasks:
            await context.write(await read())
            leaving = tasks.create_task(read())
            await asyncio.sleep(0)
            leaving.cancel()
            await asyncio.wait([leaving])
            reading = tasks.create_task(read())
            await asyncio.sleep(0)
            await context.write(b"again")
            await context.write(await reading)

    async with talking(handle) as channel:
        call: Any = channel.stream_stream("/test.Test/Talk")()
        await call.write(b"hello")
        assert [await call.read(), await call.read()] == [b"hello", b"again"]
        await call.write(b"message")
        assert await call.read() == b"message"
        assert await call.read() is grpc.aio.EOF
