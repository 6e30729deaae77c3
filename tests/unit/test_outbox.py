"""What may wait for what follows is marked so, and a frame can slip in."""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc.aio
import pytest
from grpc._cython import cygrpc

from agent_runtime_server.rpc import batches
from agent_runtime_server.rpc.outbox import Outbox
from servicekit.talking import talking

_MESSAGE = bytes(1 << 20)


class Loose:
    """Takes what it is told to write, and says how it is told to end, when it is told to."""

    def __init__(self) -> None:
        self.flags: list[int] = []
        self.batches: asyncio.Queue[Any] = asyncio.Queue()
        self.outbox = Outbox(self.write, bytes, self.begin)
        self.over = False

    async def write(self, message: bytes) -> None:
        """Write as grpc.aio does."""
        operations = (cygrpc.SendMessageOperation(message, 0),)
        await batches.execute("the call", operations, asyncio.get_running_loop(), self.begin)

    async def begin(self, call: object, operations: Any, batch: Any) -> None:
        assert call == "the call"
        if self.over:
            raise cygrpc.ExecuteBatchError("the call has ended")
        self.flags.extend(operation._flags for operation in operations)
        self.batches.put_nowait(batch)
        await batch

    async def end(self) -> None:
        """Tell the oldest batch that it has ended."""
        (await self.batches.get()).set_result(None)

    async def written(self, *frames: bytes) -> None:
        """Write frames while each of them arrives."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.outbox.write(frames))
            for _ in frames:
                await self.end()


HELD = cygrpc.WriteFlag.buffer_hint


@pytest.mark.parametrize(("frames", "flags"), [(1, [0]), (2, [HELD, 0]), (4, [HELD, HELD, HELD, 0])])
async def test_frames_leave_with_the_last(frames: int, flags: list[int]) -> None:
    to = Loose()
    await to.written(b"welcome")
    to.flags.clear()
    await to.written(*[b"text"] * frames)
    assert to.flags == flags


async def test_the_very_first_frame_goes_by_itself_and_the_others_follow() -> None:
    to = Loose()
    await to.written(*[b"text"] * 3)
    assert to.flags == [0, HELD, 0]


async def test_each_frame_is_begun_where_the_one_before_has_ended() -> None:
    to = Loose()
    await to.written(b"welcome")
    async with asyncio.TaskGroup() as tasks:
        writing = tasks.create_task(to.outbox.write([b"text"] * 3))
        for _ in range(3):
            batch = await to.batches.get()
            assert to.batches.empty()
            assert not writing.done()
            batch.set_result(None)


async def test_whoever_writes_no_more_begins_no_more_frames() -> None:
    to = Loose()
    await to.written(b"welcome")
    async with asyncio.TaskGroup() as tasks:
        writing = tasks.create_task(to.outbox.write([b"text"] * 3))
        batch = await to.batches.get()
        writing.cancel()
    batch.set_result(None)
    assert to.batches.empty()


async def told(to: Loose, first: Callable[[Any], None]) -> Exception | None:
    """Write three frames, of which the first one ends in some way and no other is begun, and return what is raised."""
    await to.written(b"welcome")

    async def write() -> Exception | None:
        try:
            await to.outbox.write([b"text"] * 3)
        except Exception as error:  # noqa: BLE001 - the test looks at it
            return error
        return None

    async with asyncio.TaskGroup() as tasks:
        writing = tasks.create_task(write())
        first(await to.batches.get())
    assert to.batches.empty()
    return writing.result()


async def test_when_the_call_ends_between_two_frames_the_writer_is_told() -> None:
    to = Loose()

    def end(batch: Any) -> None:
        to.over = True
        batch.set_result(None)

    assert isinstance(await told(to, end), cygrpc.ExecuteBatchError)


async def test_when_a_frame_fails_the_writer_is_told() -> None:
    gone = ConnectionError("gone")
    assert await told(Loose(), lambda batch: batch.set_exception(gone)) is gone


async def test_a_frame_slips_in_without_waiting_and_the_next_writing_waits_for_it() -> None:
    to = Loose()
    assert not to.outbox.slip_in(b"beat"), "nothing was written yet"
    await to.written(b"welcome")
    assert to.outbox.slip_in(b"beat")
    assert not to.outbox.slip_in(b"another, while the first is under way")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(to.outbox.write([b"text"]))
        await asyncio.sleep(0)
        assert to.batches.qsize() == 1
        await to.end()
        await to.end()
    assert to.outbox.slip_in(b"beat")


async def test_what_went_wrong_with_what_slipped_in_is_told_to_the_next_writing() -> None:
    to = Loose()
    await to.written(b"welcome")
    assert to.outbox.slip_in(b"beat")
    to.batches.get_nowait().set_exception(ConnectionError("gone"))
    assert not to.outbox.slip_in(b"beat")
    with pytest.raises(ConnectionError, match="gone"):
        await to.outbox.write([b"text"])


async def test_nothing_slips_in_behind_the_end() -> None:
    to = Loose()
    await to.written(b"welcome")
    to.over = True
    assert not to.outbox.slip_in(b"too late")
    with pytest.raises(cygrpc.ExecuteBatchError):
        await to.outbox.write([b"text"])


class Slipping:
    """Lets a large message slip in, which does not all fit on the way, and then ends as it is told."""

    def __init__(self, end: grpc.StatusCode | None) -> None:
        self.end = end

    async def handle(self, _requests: object, context: Any) -> None:
        outbox = Outbox(context.write, bytes)
        await outbox.write([b"welcome"])
        assert outbox.slip_in(_MESSAGE)
        assert not outbox.slip_in(_MESSAGE)
        if self.end is not None:
            context.set_code(self.end)
            return
        await outbox.flush()
        await outbox.write([b"enough"])


@pytest.mark.parametrize("end", [None, grpc.StatusCode.OK, grpc.StatusCode.ABORTED])
async def test_a_frame_that_slipped_in_arrives_however_the_stream_ends(end: grpc.StatusCode | None) -> None:
    async with talking(Slipping(end).handle) as channel:
        call: Any = channel.stream_stream("/test.Test/Talk")()
        assert await call.read() == b"welcome"
        assert await call.read() == _MESSAGE
        if end is None:
            assert await call.read() == b"enough"
        if end in (None, grpc.StatusCode.OK):
            assert await call.read() is grpc.aio.EOF
        assert await call.code() is (end or grpc.StatusCode.OK)
