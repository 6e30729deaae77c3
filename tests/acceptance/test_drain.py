"""A server that is asked to end says so first, and to everybody."""

import asyncio
import signal
from collections.abc import AsyncIterator

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_status import rpc_status

from agent_runtime import v1
from agent_runtime_server.mockllm.server import MockServer
from servicekit.model import calls, says
from servicekit.process import ServerProcess, serving
from servicekit.service import Service, reason_of


@pytest.fixture(scope="module")
async def one_mortal(one_model: MockServer) -> AsyncIterator[ServerProcess]:
    """A server that waits long for who does not go."""
    settings = {"AGENT_RUNTIME_LLM_BASE_URL": one_model.base_url, "AGENT_RUNTIME_DRAIN_SECONDS": "25"}
    async with serving(settings) as server:
        yield server


@pytest.fixture
async def leaving(one_mortal: ServerProcess) -> ServerProcess:
    """A server to be ended, running whatever the test before has left."""
    if not one_mortal.runs:
        await one_mortal.start()
    return one_mortal


async def test_sigterm_is_told_before_streams_end(leaving: ServerProcess, model: MockServer) -> None:
    model.use([calls(("read_file", {"path": "a"}))])
    service = Service(leaving.target)
    async with service.channel:
        session_id = await service.new_session()
        watch = service.health.Watch(HealthCheckRequest(service=""))
        assert (await watch.read()).status == HealthCheckResponse.SERVING
        async with service.chat(session_id) as chat, asyncio.TaskGroup() as tasks:
            await chat.say("read")
            (call,) = await chat.calls(1)
            stopping = tasks.create_task(leaving.stop())
            go_away = await chat.frame("go_away")
            assert (await watch.read()).status == HealthCheckResponse.NOT_SERVING
            watch.cancel()
            async with service.chat(session_id, client_id="too-late") as other:
                refused = await other.end()
            acked = await chat.submit(tool_call_started=v1.ToolCallStarted(call_id=call.call_id))
            leaving.signal(signal.SIGTERM)
            ended = await chat.end()
    assert go_away.reason == v1.GoAway.REASON_DRAINING
    assert go_away.time_left.ToTimedelta().total_seconds() == 25
    assert 0 <= go_away.reconnect_delay.ToTimedelta().total_seconds() <= 5
    assert acked.outcome == v1.FrameAck.OUTCOME_ACCEPTED
    for error in (refused, ended):
        assert error is not None
        assert (error.code(), reason_of(error)[0]) == (grpc.StatusCode.UNAVAILABLE, "SERVER_DRAINING")
        status = rpc_status.from_call(error)  # type: ignore[arg-type] # it reads what both kinds of call have
        assert status is not None
        assert any(detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR) for detail in status.details)
    assert stopping.result() == 0


async def test_nobody_is_waited_for_who_has_nothing_more_to_say(leaving: ServerProcess, model: MockServer) -> None:
    model.use([says("a long story " * 10, pace={"delay_ms": 20})])
    service = Service(leaving.target)
    async with service.channel, service.chat(await service.new_session()) as chat:
        await chat.say("tell")
        await chat.done_writing()
        await chat.frame("message_delta")
        assert await leaving.stop() == 0
        assert "assistant_message" in chat.kinds(), "the step was finished first"
        assert "turn_recovered" not in chat.kinds()


async def test_a_second_signal_ends_it_at_once(leaving: ServerProcess, model: MockServer) -> None:
    model.use([says("a story without an end", fault={"kind": "hang_mid", "after_tokens": 2})])
    service = Service(leaving.target)
    async with service.channel, service.chat(await service.new_session()) as chat, asyncio.TaskGroup() as tasks:
        await chat.say("tell")
        await chat.frame("message_delta")
        stopping = tasks.create_task(leaving.stop())
        await chat.frame("go_away")
        leaving.signal(signal.SIGINT)
        recovered = (await chat.event("turn_recovered")).turn_recovered
        error = await chat.end()
    assert recovered == v1.TurnRecovered(attempt=2, cause=v1.TurnRecovered.CAUSE_OWNER_DRAINED)
    assert error is not None
    assert reason_of(error)[0] == "SERVER_DRAINING"
    assert stopping.result() == 0
