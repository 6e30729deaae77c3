"""A server that is asked to end says so first, and to everybody."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_status import rpc_status

from agent_runtime import v1
from agent_runtime_server.mockllm.server import MockServer
from servicekit.model import calls
from servicekit.process import ServerProcess, serving
from servicekit.service import Service, reason_of


@pytest.fixture
async def leaving(one_model: MockServer) -> AsyncIterator[ServerProcess]:
    """A server with a little time between the request to end and its end."""
    settings = {"AGENT_RUNTIME_LLM_BASE_URL": one_model.base_url, "AGENT_RUNTIME_DRAIN_SECONDS": "1.5"}
    async with serving(settings) as server:
        yield server


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
            ended = await chat.end()
    assert go_away.reason == v1.GoAway.REASON_DRAINING
    assert go_away.time_left.ToTimedelta().total_seconds() == 1.5
    assert acked.outcome == v1.FrameAck.OUTCOME_ACCEPTED
    for error in (refused, ended):
        assert error is not None
        assert (error.code(), reason_of(error)[0]) == (grpc.StatusCode.UNAVAILABLE, "SERVER_DRAINING")
        status = rpc_status.from_call(error)  # type: ignore[arg-type] # it reads what both kinds of call have
        assert status is not None
        assert any(detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR) for detail in status.details)
    assert stopping.result() == 0
