"""Frames of a stream reach its method as they come, and a connection carries so many calls at a time."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import grpc.aio
import pytest

from agent_runtime import v1
from agent_runtime.v1 import hitl_service_pb2_grpc
from agent_runtime_server import entrance
from agent_runtime_server.core.settings import Settings
from agent_runtime_server.rpc.aio_server import AioServer
from agent_runtime_server.rpc.hello import first_frame
from agent_runtime_server.rpc.service import Call, TooLarge, handlers
from enginekit.turns import until_true
from fuzzkit import http2
from servicekit.service import reason_of

HITL = "agent_runtime.v1.HitlService"
STREAMS, BESIDE = 3, 2
RESET, REFUSED = 3, (7).to_bytes(4, "big")  # HTTP/2's RST_STREAM and REFUSED_STREAM
SMALL = 1000  # bytes that a frame may have
FRAMES, FRAME_BYTES = 400, 100_000


class Hitl:
    """Takes frames when it is let, and says of each that it came."""

    def __init__(self) -> None:
        self.open = 0
        self.seen: list[str] = []
        self.ended: list[str] = []
        self.goes_on = asyncio.Event()
        self.goes_on.set()
        self.last: Callable[[], object] = lambda: None
        self.hello_seconds = 0.0
        self.answers = 0  # to each frame, beside the first
        self.given = 0

    async def get_approval(self, _request: v1.GetApprovalRequest, _call: Call) -> v1.GetApprovalResponse:
        return v1.GetApprovalResponse()

    async def list_approvals(self, _request: v1.ListApprovalsRequest, _call: Call) -> v1.ListApprovalsResponse:
        return v1.ListApprovalsResponse()

    async def decide_approval(self, _request: v1.DecideApprovalRequest, _call: Call) -> v1.DecideApprovalResponse:
        return v1.DecideApprovalResponse()

    async def hitl(self, requests: AsyncIterator[Any], _call: Call) -> AsyncIterator[v1.HitlResponse]:
        self.open += 1
        end = "cancelled"
        try:
            if self.hello_seconds:
                await first_frame(requests, v1.HitlRequest, self.hello_seconds)
            async for frame in requests:
                self.seen.append(frame.frame_id)
                if isinstance(frame, TooLarge):
                    self.last = weakref.ref(frame)
                del frame
                yield v1.HitlResponse(resume_token=self.seen[-1])
                for number in range(self.answers):
                    self.given = number
                    yield v1.HitlResponse(resume_token=f"{number} {'x' * FRAME_BYTES}")
                await self.goes_on.wait()
            end = "half-closed"
        finally:
            self.open -= 1
            self.ended.append(end)


class World:
    """A server with the options of the real one, and a channel to it."""

    def __init__(self, hitl: Hitl, port: int, channel: grpc.aio.Channel) -> None:
        self.hitl = hitl
        self.port = port
        self.stub: Any = hitl_service_pb2_grpc.HitlServiceStub(channel)

    async def round_trips(self, count: int = 20) -> None:
        """Let whatever is under way on the connection arrive."""
        for _ in range(count):
            await self.stub.GetApproval(v1.GetApprovalRequest(approval_id="a"))


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(entrance, "_CALLS_BESIDE", BESIDE)
    settings = Settings(max_streams_per_connection=STREAMS)
    hitl = Hitl()
    server = AioServer(entrance.options(settings, shares_port=False))
    server.add_generic_rpc_handlers((handlers(HITL, hitl, max_frame_bytes=SMALL),))
    port = server.add_insecure_port("127.0.0.1:0")
    async with AsyncExitStack() as stack:
        await server.start()
        stack.push_async_callback(server.stop, 0)
        yield World(hitl, port, await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{port}")))


async def said(stream: Any) -> str:
    return str((await stream.read()).resume_token)


async def test_frames_come_in_their_order_and_then_the_end(world: World) -> None:
    stream = world.stub.Hitl()
    sent = [f"f{number}" for number in range(1000)]

    async def write() -> None:
        for frame_id in sent:
            await stream.write(v1.HitlRequest(frame_id=frame_id))
        await stream.done_writing()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(write())
        assert [answer.resume_token async for answer in stream] == sent
    assert await stream.code() is grpc.StatusCode.OK
    assert (world.hitl.seen, world.hitl.ended) == (sent, ["half-closed"])


async def test_a_peer_that_sends_faster_than_it_is_read_is_held_back(world: World) -> None:
    stream, written = world.stub.Hitl(), 0
    world.hitl.goes_on.clear()

    async def write() -> None:
        nonlocal written
        for number in range(FRAMES):
            decision = v1.ApprovalDecision(comment="x" * FRAME_BYTES)
            await stream.write(v1.HitlRequest(frame_id=f"f{number}", decision=decision))
            written += 1
        await stream.done_writing()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(write())
        assert await said(stream) == "f0"
        before = -1
        while before < written:
            before = written
            await world.round_trips()
        assert written < FRAMES // 2, "the rest waits with the peer"
        assert world.hitl.seen == ["f0"]
        world.hitl.goes_on.set()
        for number in range(1, FRAMES):
            assert await said(stream) == f"f{number}"
        assert await stream.read() is grpc.aio.EOF
    assert world.hitl.ended == ["half-closed"]


async def test_a_peer_that_reads_slower_than_is_sent_holds_the_method_back(world: World) -> None:
    world.hitl.answers = FRAMES
    stream, before = world.stub.Hitl(), -1
    await stream.write(v1.HitlRequest(frame_id="f0"))
    assert await said(stream) == "f0"
    while before < world.hitl.given:
        before = world.hitl.given
        await world.round_trips()
    assert before < FRAMES // 2, "the rest waits with the method"
    for number in range(FRAMES):
        assert (await said(stream)).startswith(f"{number} ")
    stream.cancel()


async def test_a_stream_that_says_nothing_is_not_waited_for(world: World) -> None:
    world.hitl.hello_seconds = 0.05
    stream = world.stub.Hitl()
    with pytest.raises(grpc.aio.AioRpcError, match="the first frame must be a hello") as caught:
        await stream.read()
    assert reason_of(caught.value)[0] == "HELLO_REQUIRED"


async def test_a_cancel_reaches_a_method_that_leaves_frames_unread(world: World) -> None:
    stream = world.stub.Hitl()
    world.hitl.goes_on.clear()
    for frame_id in ("f0", "f1", "f2"):
        await stream.write(v1.HitlRequest(frame_id=frame_id))
    assert await said(stream) == "f0"
    stream.cancel()
    await until_true(lambda: world.hitl.ended)
    assert (world.hitl.seen, world.hitl.ended, world.hitl.open) == (["f0"], ["cancelled"], 0)


async def test_a_stream_that_waits_keeps_no_frame_behind_it(world: World) -> None:
    stream = world.stub.Hitl()
    gc.disable()
    try:
        await stream.write(v1.HitlRequest(frame_id="f0", decision=v1.ApprovalDecision(comment="x" * SMALL)))
        assert await said(stream) == "f0"
        await until_true(lambda: world.hitl.last() is None)
    finally:
        gc.enable()
    stream.cancel()


async def test_calls_beyond_those_of_a_connection_wait_until_another_has_ended(world: World) -> None:
    held = [world.stub.Hitl() for _ in range(STREAMS + BESIDE)]
    for stream in held:
        await stream.write(v1.HitlRequest(frame_id="held"))
        assert await said(stream) == "held"
    waiting = world.stub.Hitl()
    async with asyncio.TaskGroup() as tasks:
        writing = tasks.create_task(waiting.write(v1.HitlRequest(frame_id="waiting")))
        for _ in range(20):
            await held[0].write(v1.HitlRequest(frame_id="held"))
            assert await said(held[0]) == "held"
        assert (world.hitl.open, writing.done()) == (STREAMS + BESIDE, False)
        held[1].cancel()
    assert await said(waiting) == "waiting"
    assert world.hitl.open == STREAMS + BESIDE
    for stream in (*held, waiting):
        stream.cancel()


async def test_a_peer_that_minds_no_bound_is_refused_call_by_call(world: World) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)

    async def frame() -> tuple[int, int, bytes]:
        head = await reader.readexactly(9)
        payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
        return head[3], int.from_bytes(head[5:], "big"), payload

    writer.write(http2.hello())
    await frame()  # the server's settings, of which the calls say that they are known
    writer.write(http2.calls(f"/{HITL}/Hitl".encode(), STREAMS + BESIDE + 3))
    refused: list[int] = []
    async with asyncio.timeout(30):
        while len(refused) < 3 or world.hitl.open < STREAMS + BESIDE:
            kind, stream, payload = await frame()
            if kind == RESET:
                assert payload == REFUSED
                refused.append(stream)
    assert refused == [11, 13, 15], "those that came last"
    writer.close()
    await until_true(lambda: not world.hitl.open)
    await world.round_trips(1)
