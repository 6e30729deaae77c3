"""Bad input of every kind: a clear answer, nothing broken, nothing leaked, and the next good request served."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import pytest

from agent_runtime import v1
from badinput import frames, unary
from badinput.case import Case, refused
from badinput.world import Answer, World, build
from benchkit.processes import resident_bytes
from fuzzkit import http2
from servicekit.process import ServerProcess, serving
from servicekit.service import Service

SETTINGS = {"AGENT_RUNTIME_HITL_TIMEOUT": "3600", "AGENT_RUNTIME_HITL_TIMEOUT_ACTION": "wait"}
AT_ONCE = 16  # for some wait until the server has waited long enough
MOST_GROWTH = 12 << 20  # bytes of memory, over some thousand bad inputs
STATUS = b"/agent_runtime.v1.SystemService/GetServerStatus"

Send = Callable[[World, Case], Awaitable[Answer]]
TABLE: tuple[tuple[str, Send, tuple[Case, ...]], ...] = (
    ("request", World.request, tuple(unary.cases())),
    ("first frame", World.opening, tuple(frames.openings())),
    ("frame", World.frame, (*frames.answered(), *frames.reviewed())),
    ("last frame", World.ending, tuple(frames.endings())),
)
ALL = [(send, case) for _, send, cases in TABLE for case in cases]
IDS = [f"{how} {case.where}: {case.name}" for how, _, cases in TABLE for case in cases]


@pytest.fixture(scope="module")
async def process() -> AsyncIterator[ServerProcess]:
    async with serving(SETTINGS) as process:
        yield process


@pytest.fixture(scope="module")
async def world(process: ServerProcess) -> AsyncIterator[World]:
    service = Service(process.target)
    async with service.channel:
        yield await build(service)


def test_there_are_more_than_two_hundred() -> None:
    assert len(ALL) > 200
    assert len(set(IDS)) == len(IDS)


@pytest.mark.parametrize(("send", "case"), ALL, ids=IDS)
async def test_bad_input_is_answered(world: World, send: Send, case: Case) -> None:
    async with asyncio.timeout(30):
        answer = await send(world, case)
        assert answer.is_as(case.told), f"told {answer}, should be {case.told}"
        assert await world.is_well()


async def test_memory_stays_flat(world: World, process: ServerProcess) -> None:
    async def once() -> int:
        for first in range(0, len(ALL), AT_ONCE):
            some = (send(world, case) for send, case in ALL[first : first + AT_ONCE])
            await asyncio.gather(*some, return_exceptions=True)  # one takes another's place; answers are tested above
        return resident_bytes([process.pid])

    await once()
    before = await once()
    after = max([await once() for _ in range(3)])
    assert after - before < MOST_GROWTH


GARBAGE = {
    "another protocol": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "zeros": b"\0" * 10_000,
    "noise": http2.PREFACE + b"\xff" * 999,
    "a method that is no text": http2.request(b"/s\xfc\xdf"),
    "a method without a slash that is no text": http2.request(b"\xff"),
    "a host that is no text": http2.request(STATUS, (b"host", b"s\xfc\xdf")),
    "metadata that is no text": http2.request(STATUS, (b"authorization", b"Bearer s\xfc\xdf-secret")),
}


@pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE)
async def test_garbage_on_the_port_harms_nobody(world: World, process: ServerProcess, data: bytes) -> None:
    host, _, port = process.target.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(data)
    with suppress(OSError):  # the server may have closed before it has read all
        writer.write_eof()
    async with asyncio.timeout(30):
        with suppress(ConnectionError):
            await reader.read()
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
    assert await world.is_well()
    assert process.runs


async def test_an_idempotency_key_is_good_for_one_payload(world: World) -> None:
    submit = world.service.chat_service.SubmitFrame
    frame = v1.ChatRequest(frame_id="key-1", switch_agent=v1.SwitchAgent(agent_id="coder"))
    request = v1.SubmitFrameRequest(session_id="good", client_id="ide", frame=frame)
    first = (await submit(request)).frame_ack
    again = (await submit(request)).frame_ack
    assert (first.outcome, again.outcome) == (v1.FrameAck.OUTCOME_ACCEPTED, v1.FrameAck.OUTCOME_DUPLICATE)
    assert first.seq == again.seq
    request.frame.switch_agent.reason = "another"
    case = Case("", "ChatService.SubmitFrame", request, refused("IDEMPOTENCY_KEY_REUSED"))
    answer = await world.request(case)
    assert answer.is_as(case.told), answer


async def test_a_good_turn_runs_after_all_of_it(world: World) -> None:
    async with world.service.chat("good", client_id="ide") as chat:
        await chat.say("hello")
        assert (await chat.finished()).state == v1.TURN_STATE_COMPLETED


async def test_none_of_it_was_a_fault_of_ours(process: ServerProcess) -> None:
    log = process._log.read_text()
    assert "Traceback" not in log
    assert "rpc_failed" not in log
    assert "secret" not in log
