"""The edge on a real server: what goes in, what comes out, and what a fault looks like from outside."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import grpc.aio
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_status import rpc_status

from agent_runtime import v1
from agent_runtime.v1 import event_service_pb2_grpc, hitl_service_pb2_grpc
from agent_runtime_server.core.errors import CallerError, ServiceError, StoreUnavailable
from agent_runtime_server.rpc import service
from agent_runtime_server.rpc.aio_server import AioServer
from agent_runtime_server.rpc.health import SERVICE, Health
from agent_runtime_server.rpc.reflection import Reflection
from agent_runtime_server.rpc.service import BadFrame, Call, Malformed, TooLarge, handlers

HITL = "agent_runtime.v1.HitlService"
LIMIT = 1000
SECRET = "the password is hunter2"  # it must not be seen


class Recorder:
    """A logger that keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[tuple[str, dict[str, object]]] = []

    def exception(self, event: str, /, **fields: object) -> None:
        self.said.append((event, fields))


class Hitl:
    """Implements HitlService as each test needs it."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.calls: list[Call] = []
        self.frames: list[object] = []
        self.endless = False
        self.endless_lists = False
        self.together: list[service.Outgoing] = []
        self.started = asyncio.Event()
        self.ended: asyncio.Queue[BaseException | None] = asyncio.Queue()

    async def get_approval(self, request: v1.GetApprovalRequest, call: Call) -> v1.GetApprovalResponse | bytes:
        self.calls.append(call)
        if self.error is not None:
            raise self.error
        response = v1.GetApprovalResponse(approval=v1.Approval(approval_id=request.approval_id))
        return response.SerializeToString() if request.approval_id == "spliced" else response

    async def list_approvals(self, _request: v1.ListApprovalsRequest, _call: Call) -> v1.ListApprovalsResponse:
        self.started.set()
        await asyncio.Event().wait()
        raise AssertionError

    async def decide_approval(self, _request: v1.DecideApprovalRequest, _call: Call) -> v1.DecideApprovalResponse:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._fail())
        raise AssertionError

    async def _fail(self) -> None:
        raise StoreUnavailable("Postgres is down")

    async def hitl(self, requests: AsyncIterator[Any], call: Call) -> service.Responses:
        self.calls.append(call)
        try:
            async with asyncio.TaskGroup():
                async for request in requests:
                    self.frames.append(request)
                    if isinstance(request, Malformed):
                        raise request.error  # noqa: TRY301 # as a handler does it
                    if isinstance(request, TooLarge):
                        yield v1.HitlResponse(frame_ack=v1.FrameAck(frame_id=request.frame_id))
                        continue
                    if self.error is not None:
                        raise self.error  # noqa: TRY301 # as a handler does it
                    yield v1.HitlResponse(resume_token=request.frame_id).SerializeToString()
                    if self.together:
                        yield self.together
                    while self.endless:
                        yield v1.HitlResponse(resume_token="x" * 500_000)
                    while self.endless_lists:
                        yield [v1.HitlResponse(resume_token="x" * 500_000)] * 3
        except BaseException as error:
            await self.ended.put(error)
            raise
        await self.ended.put(None)


class Events:
    """Implements EventService."""

    async def subscribe_events(
        self, request: v1.SubscribeEventsRequest, _call: Call
    ) -> AsyncIterator[v1.SubscribeEventsResponse]:
        yield v1.SubscribeEventsResponse(resume_token=request.session_id)
        raise CallerError(v1.ERROR_REASON_SESSION_NOT_FOUND, "no such session")


class World:
    """A server with all parts of the edge, and a channel to it."""

    def __init__(self, channel: grpc.aio.Channel, port: int, hitl: Hitl, health: Health, log: Recorder) -> None:
        self.channel = channel
        self.port = port
        self.hitl = hitl
        self.health = health
        self.log = log
        self.stub: Any = hitl_service_pb2_grpc.HitlServiceStub(channel)
        self.events: Any = event_service_pb2_grpc.EventServiceStub(channel)
        self.checks: Any = health_pb2_grpc.HealthStub(channel)

    def raw(self, method: str) -> Any:
        return self.channel.unary_unary(f"/{HITL}/{method}")

    def raw_stream(self) -> Any:
        return self.channel.stream_stream(f"/{HITL}/Hitl")()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    hitl, health, log = Hitl(), Health([HITL]), Recorder()
    health.set("dependency.postgres", serving=True)
    server = AioServer([("grpc.max_receive_message_length", 4 << 20)])
    server.add_generic_rpc_handlers(
        (
            handlers(HITL, hitl, logger=log, max_frame_bytes=LIMIT),
            handlers("agent_runtime.v1.EventService", Events(), logger=log),
            health.handler(),
            *Reflection([HITL, SERVICE]).handlers(),
        )
    )
    port = server.add_insecure_port("127.0.0.1:0")
    async with AsyncExitStack() as stack:
        await server.start()
        stack.push_async_callback(server.stop, 0)
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{port}"))
        yield World(channel, port, hitl, health, log)


class Refused:
    """What the caller of a refused RPC received."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        self.code = error.code()
        self.text = error.details() or ""
        self.error = error

    def detail(self, kind: Any) -> Any:
        status = rpc_status.from_call(self.error)  # type: ignore[arg-type]
        found = kind()
        assert status is not None
        assert any(packed.Unpack(found) for packed in status.details)
        return found

    @property
    def reason(self) -> str:
        info = self.detail(error_details_pb2.ErrorInfo)
        return str(info.reason)

    @property
    def fields(self) -> list[str]:
        return [found.field for found in self.detail(error_details_pb2.BadRequest).field_violations]


async def refusal(call: Any) -> Refused:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return Refused(caught.value)


async def test_a_request_is_answered(world: World) -> None:
    response = await world.stub.GetApproval(v1.GetApprovalRequest(approval_id="a"))
    assert response.approval.approval_id == "a"


async def test_serialised_answers_go_out_as_they_are(world: World) -> None:
    response = await world.stub.GetApproval(v1.GetApprovalRequest(approval_id="spliced"))
    assert response.approval.approval_id == "spliced"


async def test_bytes_that_are_no_protobuf_are_the_callers_fault(world: World) -> None:
    refused = await refusal(world.raw("GetApproval")(b"\xff\xff\xff\xff"))
    assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED")
    assert refused.fields == [""]


async def test_a_string_that_is_no_utf8_is_the_callers_fault(world: World) -> None:
    refused = await refusal(world.raw("GetApproval")(b"\x0a\x02\xc3\x28"))
    assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED")


async def test_a_broken_rule_names_its_field(world: World) -> None:
    refused = await refusal(world.stub.GetApproval(v1.GetApprovalRequest()))
    assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED")
    assert refused.fields == ["approval_id"]
    assert refused.text.startswith("approval_id: must be set")


async def test_too_large_a_request_is_refused(world: World) -> None:
    refused = await refusal(world.stub.GetApproval(v1.GetApprovalRequest(approval_id="a" * LIMIT)))
    assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "FRAME_TOO_LARGE")


async def test_an_error_of_ours_is_told_with_its_reason(world: World) -> None:
    world.hitl.error = CallerError(v1.ERROR_REASON_APPROVAL_NOT_FOUND, "no such approval")
    refused = await refusal(world.stub.GetApproval(v1.GetApprovalRequest(approval_id="a")))
    assert (refused.code, refused.text) == (grpc.StatusCode.NOT_FOUND, "no such approval")
    assert refused.reason == "APPROVAL_NOT_FOUND"
    assert world.log.said == []


async def test_an_error_out_of_a_task_group_is_told_the_same(world: World) -> None:
    request = v1.DecideApprovalRequest(
        request_id="r", decision=v1.ApprovalDecision(approval_id="a", verdict=v1.APPROVAL_VERDICT_REJECT)
    )
    refused = await refusal(world.stub.DecideApproval(request))
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "DEPENDENCY_UNAVAILABLE")
    assert 1 <= refused.detail(error_details_pb2.RetryInfo).retry_delay.seconds <= 3


async def test_a_fault_of_ours_is_logged_and_told_without_its_text(world: World) -> None:
    world.hitl.error = RuntimeError(SECRET)
    refused = await refusal(
        world.stub.GetApproval(v1.GetApprovalRequest(approval_id="a"), metadata=(("x-correlation-id", "c-1"),))
    )
    assert (refused.code, refused.text) == (grpc.StatusCode.INTERNAL, "internal error")
    assert "hunter2" not in repr(refused.error)
    assert refused.detail(error_details_pb2.RequestInfo).request_id == "c-1"
    assert world.log.said == [("rpc_failed", {"method": f"{HITL}.GetApproval", "correlation_id": "c-1"})]


async def test_a_correlation_id_is_echoed(world: World) -> None:
    call = world.stub.GetApproval(v1.GetApprovalRequest(approval_id="a"), metadata=(("x-correlation-id", "c-1"),))
    assert dict(await call.initial_metadata())["x-correlation-id"] == "c-1"
    await call
    assert world.hitl.calls[0].correlation_id == "c-1"
    assert world.hitl.calls[0].peer.startswith("ipv4:127.0.0.1")


@pytest.mark.parametrize("given", ["", "x" * 129], ids=["none", "long"])
async def test_an_unfit_correlation_id_is_replaced(world: World, given: str) -> None:
    call = world.stub.GetApproval(v1.GetApprovalRequest(approval_id="a"), metadata=(("x-correlation-id", given),))
    assert dict(await call.initial_metadata())["x-correlation-id"].startswith("req-")
    await call


async def test_frames_flow_both_ways(world: World) -> None:
    stream = world.stub.Hitl(metadata=(("x-correlation-id", "c-2"),))
    for frame_id in ("f1", "f2"):
        await stream.write(v1.HitlRequest(frame_id=frame_id, ping=v1.Ping()))
        assert (await stream.read()).resume_token == frame_id
    assert dict(await stream.initial_metadata())["x-correlation-id"] == "c-2"
    await stream.done_writing()
    assert await stream.read() is grpc.aio.EOF
    assert await stream.code() == grpc.StatusCode.OK
    assert await world.hitl.ended.get() is None


async def test_frames_are_not_validated_here(world: World) -> None:
    stream = world.stub.Hitl()
    await stream.write(v1.HitlRequest(frame_id="f", claim=v1.ApprovalClaim()))
    assert (await stream.read()).resume_token == "f"
    stream.cancel()


async def test_a_malformed_frame_ends_the_stream_as_the_method_decides(world: World) -> None:
    stream = world.raw_stream()
    await stream.write(b"\xff\xff")
    refused = await refusal(stream.read())
    assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED")
    assert isinstance(world.hitl.frames[0], BadFrame)


async def test_too_large_a_frame_keeps_its_frame_id_and_the_stream(world: World) -> None:
    stream = world.stub.Hitl()
    await stream.write(v1.HitlRequest(frame_id="f1", decision=v1.ApprovalDecision(comment="x" * LIMIT)))
    assert (await stream.read()).frame_ack.frame_id == "f1"
    await stream.write(v1.HitlRequest(frame_id="f2"))
    assert (await stream.read()).resume_token == "f2"
    stream.cancel()


async def test_a_fault_in_a_stream_is_told_without_its_text(world: World) -> None:
    world.hitl.error = RuntimeError(SECRET)
    stream = world.stub.Hitl()
    await stream.write(v1.HitlRequest(frame_id="f"))
    refused = await refusal(stream.read())
    assert (refused.code, refused.text) == (grpc.StatusCode.INTERNAL, "internal error")
    assert [event for event, _ in world.log.said] == ["rpc_failed"]


async def test_an_error_after_some_answers_ends_the_stream(world: World) -> None:
    stream = world.events.SubscribeEvents(v1.SubscribeEventsRequest(session_id="s"))
    assert (await stream.read()).resume_token == "s"
    refused = await refusal(stream.read())
    assert (refused.code, refused.reason) == (grpc.StatusCode.NOT_FOUND, "SESSION_NOT_FOUND")


async def test_a_subscription_is_validated(world: World) -> None:
    refused = await refusal(world.events.SubscribeEvents(v1.SubscribeEventsRequest(after_seq=-1)).read())
    assert refused.code == grpc.StatusCode.INVALID_ARGUMENT
    assert "after_seq" in refused.fields


@pytest.mark.parametrize("count", [0, 1, 2, 3, 100])
async def test_answers_that_leave_together_come_in_their_order_and_wait_for_no_more(world: World, count: int) -> None:
    texts = [f"{number}" for number in range(count)]
    world.hitl.together = [v1.HitlResponse(resume_token=text).SerializeToString() for text in texts]
    stream = world.stub.Hitl()
    for _ in range(2):
        await stream.write(v1.HitlRequest(frame_id="f"))
        assert [(await stream.read()).resume_token for _ in range(count + 1)] == ["f", *texts]
    assert world.log.said == []


@pytest.mark.parametrize("sends", ["", "endless", "endless_lists"], ids=["waiting for frames", "sending", "in lists"])
async def test_a_cancelled_stream_sees_the_cancellation(world: World, sends: str) -> None:
    endless = bool(sends)
    setattr(world.hitl, sends or "endless", endless)
    stream = world.stub.Hitl()
    await stream.write(v1.HitlRequest(frame_id="f"))
    await stream.read()
    stream.cancel()
    ended = await asyncio.wait_for(world.hitl.ended.get(), 10)
    # A method that waits for frames may also see them end, as if the client had only half-closed.
    assert isinstance(ended, asyncio.CancelledError) or (ended is None and not endless)
    assert world.log.said == []


async def test_a_cancelled_request_is_no_fault(world: World) -> None:
    call = world.stub.ListApprovals(v1.ListApprovalsRequest())
    await world.hitl.started.wait()
    call.cancel()
    await world.stub.GetApproval(v1.GetApprovalRequest(approval_id="a"))
    assert world.log.said == []


async def test_health_is_checked(world: World) -> None:
    for name in ("", HITL, "dependency.postgres", "dependency.llm"):
        response = await world.checks.Check(health_pb2.HealthCheckRequest(service=name))
        assert response.status == health_pb2.HealthCheckResponse.SERVING
    refused = await refusal(world.checks.Check(health_pb2.HealthCheckRequest(service="nobody")))
    assert refused.code == grpc.StatusCode.NOT_FOUND


async def test_bytes_that_are_no_protobuf_are_no_question_for_health(world: World) -> None:
    channel: Any = world.channel
    method = "/grpc.health.v1.Health"
    for data in (b"\xff\xff\xff", b"\x0a\x02\xc3\x28"):
        for asked in (
            channel.unary_unary(f"{method}/Check")(data),
            channel.unary_stream(f"{method}/Watch")(data).read(),
        ):
            refused = await refusal(asked)
            assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED")


async def test_a_request_that_never_comes_is_given_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "REQUEST_SECONDS", 0.1)
    channel: Any = world.channel
    for asked in (
        channel.stream_unary(f"/{HITL}/GetApproval")(),
        channel.stream_unary("/grpc.health.v1.Health/Check")(),
        channel.stream_stream("/agent_runtime.v1.EventService/SubscribeEvents")().read(),
    ):
        refused = await refusal(asked)
        assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "CLIENT_IDLE_TIMEOUT")


async def test_a_refused_request_leaves_nothing_behind(world: World) -> None:
    """What is raised holds frames, and these the request: held by the call it would stay until a collection."""
    bad = (b"\xff\xff", v1.GetApprovalRequest(approval_id="a" * 65).SerializeToString(), b"\x0a" + b"a" * LIMIT)
    gc.collect()
    gc.disable()
    try:
        before = errors_alive()
        for data in bad * 3:
            await refusal(world.raw("GetApproval")(data))
        async with asyncio.timeout(10):
            while errors_alive() > before:  # noqa: ASYNC110 - a task of the server tells nobody that it has ended
                await asyncio.sleep(0.01)
    finally:
        gc.enable()


def errors_alive() -> int:
    return sum(isinstance(one, ServiceError) for one in gc.get_objects())


async def test_a_call_without_its_request_is_told_so(world: World) -> None:
    channel: Any = world.channel
    call = channel.stream_unary(f"/{HITL}/GetApproval")()
    await call.done_writing()
    refused = await refusal(call)
    assert (refused.code, refused.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED")


async def test_a_method_that_nobody_serves_is_unimplemented(world: World) -> None:
    refused = await refusal(world.raw("Unheard")(b""))
    assert refused.code == grpc.StatusCode.UNIMPLEMENTED


async def test_health_is_watched(world: World) -> None:
    watch = world.checks.Watch(health_pb2.HealthCheckRequest(service=HITL))
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
    world.health.set("dependency.redis", serving=False)
    world.health.set("dependency.postgres", serving=False)
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
    world.health.set("dependency.postgres", serving=True)
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
    world.health.draining()
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
    watch.cancel()


async def test_watching_an_unknown_name_goes_on(world: World) -> None:
    watch = world.checks.Watch(health_pb2.HealthCheckRequest(service="nobody"))
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    watch.cancel()


@pytest.mark.parametrize("package", ["grpc.reflection.v1", "grpc.reflection.v1alpha"])
async def test_reflection_answers_under_both_names(world: World, package: str) -> None:
    method: Any = world.channel.stream_stream(
        f"/{package}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    stream = method()
    await stream.write(reflection_pb2.ServerReflectionRequest(list_services="*"))
    listed = {service.name for service in (await stream.read()).list_services_response.service}
    assert {HITL, SERVICE, "grpc.reflection.v1.ServerReflection"} <= listed
    await stream.write(reflection_pb2.ServerReflectionRequest(file_containing_symbol=f"{HITL}.Hitl"))
    assert (await stream.read()).file_descriptor_response.file_descriptor_proto
    await stream.done_writing()
    assert await stream.read() is grpc.aio.EOF


def test_an_implementation_must_have_every_method() -> None:
    with pytest.raises(AttributeError, match="hitl"):
        handlers(HITL, object())
