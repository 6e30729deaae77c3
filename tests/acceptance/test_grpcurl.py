"""The service as grpcurl sees it: by reflection alone, from a shell."""

import json

import pytest
from grpc_health.v1.health_pb2 import HealthCheckResponse

from agent_runtime import v1
from agent_runtime_server.mockllm.server import MockServer
from servicekit.grpcurl import Grpcurl, installed
from servicekit.model import calls, says
from servicekit.process import ServerProcess

SERVICES = (
    "agent_runtime.v1.AgentService",
    "agent_runtime.v1.ChatService",
    "agent_runtime.v1.EventService",
    "agent_runtime.v1.HitlService",
    "agent_runtime.v1.SessionService",
    "agent_runtime.v1.SystemService",
)
HEALTH = (
    "",
    *SERVICES,
    *(f"dependency.{name}" for name in ("postgres", "redis", "llm", "background")),
)


@pytest.fixture
def grpcurl(server: ServerProcess) -> Grpcurl:
    program = installed()
    if program is None:
        pytest.skip("grpcurl is not there: scripts/bootstrap installs it on Linux x86_64 only")
    return Grpcurl(program, server.target)


async def test_list_names_every_service(grpcurl: Grpcurl) -> None:
    said = await grpcurl.run("list")
    assert (said.status, said.err) == (0, "")
    assert {*SERVICES, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"} <= {*said.out.split()}


@pytest.mark.parametrize(
    ("symbol", "expected"),
    [
        ("agent_runtime.v1.ChatService.Chat", "stream .agent_runtime.v1.ChatRequest"),
        ("agent_runtime.v1.HitlService", "rpc DecideApproval"),
        ("agent_runtime.v1.SessionEvent", "tool_call_dispatched = 18"),
        ("agent_runtime.v1.TurnState", "TURN_STATE_PARKED = 10"),
    ],
)
async def test_describe_shows_methods_messages_and_enums(grpcurl: Grpcurl, symbol: str, expected: str) -> None:
    said = await grpcurl.run("describe", symbol)
    assert (said.status, said.err) == (0, "")
    assert expected in said.out


async def test_health_is_checked_by_every_name(grpcurl: Grpcurl) -> None:
    for name in HEALTH:
        said = await grpcurl.run("grpc.health.v1.Health/Check", data={"service": name})
        assert said.answer(HealthCheckResponse).status == HealthCheckResponse.SERVING, name
    unknown = await grpcurl.run("grpc.health.v1.Health/Check", data={"service": "nobody"})
    assert "Code: NotFound" in unknown.err


async def test_health_is_watched_by_every_name(grpcurl: Grpcurl) -> None:
    for name in HEALTH:
        request = json.dumps({"service": name})
        async with grpcurl.stream("grpc.health.v1.Health/Watch", HealthCheckResponse, request) as watch:
            assert (await watch.until(lambda _: True)).status == HealthCheckResponse.SERVING, name


async def test_a_whole_turn_goes_through_a_pipe(grpcurl: Grpcurl, model: MockServer) -> None:
    model.use([calls(("read_file", {"path": "notes.txt"})), says("It says: buy milk.")])
    created = await grpcurl.run("agent_runtime.v1.SessionService/CreateSession", data={"agentId": "coder"})
    hello = {
        "sessionId": created.answer(v1.CreateSessionResponse).session.session_id,
        "clientId": "shell",
        "protocolVersion": 1,
        "tools": [{"name": "read_file"}],
    }
    async with grpcurl.stream("agent_runtime.v1.ChatService/Chat", v1.ChatResponse) as chat:
        await chat.send({"hello": hello})
        await chat.until(lambda frame: frame.HasField("caught_up"))
        await chat.send({"frameId": "m1", "userMessage": {"parts": [{"text": "What do my notes say?"}]}})
        dispatched = await chat.until(lambda frame: frame.event.HasField("tool_call_dispatched"))
        call = dispatched.event.tool_call_dispatched.tool_call
        assert json.loads(call.arguments_json) == {"path": "notes.txt"}
        result = {"callId": call.call_id, "status": "STATUS_SUCCEEDED", "content": [{"text": "buy milk"}]}
        await chat.send({"frameId": "r1", "toolResult": result})
        await chat.until(lambda frame: frame.frame_ack.frame_id == "r1")
        assert await chat.close() == 0  # a half-close: the answer still comes
    events = [frame.event for frame in chat.responses if frame.HasField("event")]
    assert [event.seq for event in events] == [*range(1, len(events) + 1)]
    assert events[-1].turn_finished.state == v1.TURN_STATE_COMPLETED
    assert events[-2].assistant_message.parts[0].text == "It says: buy milk."


async def test_error_details_are_decoded(grpcurl: Grpcurl) -> None:
    unknown = await grpcurl.run("agent_runtime.v1.SessionService/GetSession", data={"sessionId": "nobody"})
    assert "Code: NotFound" in unknown.err
    assert "google.rpc.ErrorInfo" in unknown.err
    assert "SESSION_NOT_FOUND" in unknown.err
    bad = await grpcurl.run("agent_runtime.v1.SessionService/GetSession", data={"sessionId": ""})
    assert "Code: InvalidArgument" in bad.err
    assert "google.rpc.BadRequest" in bad.err
    assert '"field":"session_id"' in bad.err.replace(" ", "")
