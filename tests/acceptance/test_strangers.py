"""A caller of one tenant with the real ids and tokens of another's finds nothing, whatever is called."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool

from agent_runtime import v1
from agent_runtime_server.app import SERVICES
from agent_runtime_server.rpc.access import PACKAGE
from servicekit.keys import keys_of
from servicekit.process import serving
from servicekit.service import Service, reason_of

SETTINGS = {"AGENT_RUNTIME_AUTH_MODE": "required", "AGENT_RUNTIME_HITL_TIMEOUT": "3600"}


@dataclass(frozen=True)
class World:
    """What a tenant has, and a stranger who knows every id and token of it."""

    owner: Service
    stranger: Service
    session_id: str
    approval: v1.Approval
    call_id: str
    page_token: str
    feed_token: str
    inbox_token: str

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not be shown to a stranger."""
        return self.session_id, self.approval.approval_id, self.call_id, "theirs-only"

    @property
    def decision(self) -> v1.ApprovalDecision:
        """A decision that would be good if its sender might make it."""
        return v1.ApprovalDecision(
            approval_id=self.approval.approval_id,
            arguments_sha256=self.approval.tool_call.arguments_sha256,
            verdict=v1.APPROVAL_VERDICT_APPROVE,
        )


@pytest.fixture(scope="module")
async def world() -> AsyncIterator[World]:
    async with serving(SETTINGS) as server, keys_of(server) as keys, AsyncExitStack() as stack:
        owner = Service(server.target, await keys.new("acme", "ann"))
        # The same subject in another tenant is somebody else.
        stranger = Service(server.target, await keys.new("other", "ann", "admin"))
        for service in (owner, stranger):
            await stack.enter_async_context(service.channel)
        yield await _built(owner, stranger)


async def _built(owner: Service, stranger: Service) -> World:
    sessions = [await owner.new_session() for _ in range(2)]
    async with owner.chat(sessions[0]) as chat:
        await chat.say("create file theirs-only.txt with hi")
        approval = (await chat.event("approval_requested")).approval_requested.approval
    page = await owner.sessions.ListSessions(v1.ListSessionsRequest(page_size=1))
    feed = owner.events.SubscribeEvents(v1.SubscribeEventsRequest())
    feed_token = (await feed.read()).resume_token
    feed.cancel()
    async with owner.review() as inbox:
        await inbox.frame("caught_up")
        inbox_token = next(frame.resume_token for frame in inbox.frames if frame.HasField("caught_up"))
    call_id = approval.tool_call.call_id
    return World(owner, stranger, sessions[0], approval, call_id, page.next_page_token, feed_token, inbox_token)


async def not_found(call: Any, reason: str) -> None:
    """Check that an RPC ends as one on what does not exist."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert (caught.value.code(), reason_of(caught.value)[0]) == (grpc.StatusCode.NOT_FOUND, reason)


async def chat(world: World) -> None:
    async with world.stranger.chat(world.session_id) as stream:
        error = await stream.end()
        assert error is not None
        assert reason_of(error)[0] == "SESSION_NOT_FOUND"
        assert stream.frames == []


async def submit_frame(world: World) -> None:
    result = v1.ToolResult(call_id=world.call_id, status=v1.ToolResult.STATUS_SUCCEEDED)
    for frame in (
        v1.ChatRequest(frame_id="f1", user_message=v1.UserMessage(parts=[v1.Part(text="hi")])),
        v1.ChatRequest(frame_id="f2", approval_decision=world.decision),
        v1.ChatRequest(frame_id="f3", tool_result=result),
    ):
        request = v1.SubmitFrameRequest(session_id=world.session_id, client_id="c", frame=frame)
        await not_found(world.stranger.chat_service.SubmitFrame(request), "SESSION_NOT_FOUND")


async def own_stream_on_other_approval(world: World) -> None:
    """Decide another tenant's approval over a session of one's own."""
    async with world.stranger.chat(await world.stranger.new_session()) as stream:
        ack = await stream.submit(approval_decision=world.decision)
        assert ack.error.reason == "APPROVAL_NOT_FOUND"


async def hitl(world: World) -> None:
    for hello in ({}, {"resume_token": world.inbox_token}):
        async with world.stranger.review(**hello) as stream:
            await stream.frame("caught_up")
            for frame in (
                {"claim": v1.ApprovalClaim(approval_id=world.approval.approval_id)},
                {"release": v1.ApprovalRelease(approval_id=world.approval.approval_id)},
                {"decision": world.decision},
            ):
                frame_id = stream.new_id()
                await stream.write(v1.HitlRequest(frame_id=frame_id, **frame))
                assert (await stream.ack(frame_id)).error.reason == "APPROVAL_NOT_FOUND"
            assert stream.all("approval") == []


async def subscribe_events(world: World) -> None:
    subscribe = world.stranger.events.SubscribeEvents
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await subscribe(v1.SubscribeEventsRequest(session_id=world.session_id)).read()
    assert reason_of(caught.value)[0] == "SESSION_NOT_FOUND"
    await _feed_shows_own_only(world, subscribe(v1.SubscribeEventsRequest(resume_token=world.feed_token)))
    await _feed_shows_own_only(world, subscribe(v1.SubscribeEventsRequest()))


async def _feed_shows_own_only(world: World, feed: Any) -> None:
    """Let both tenants commit something, theirs first: the feed is in the order of commits."""
    while not (await feed.read()).HasField("caught_up"):
        pass
    await world.owner.new_session()
    mine = await world.stranger.new_session()
    async with asyncio.timeout(60):
        while True:
            frame = await feed.read()
            if frame.HasField("event"):
                assert frame.event.session_id not in world.secrets
                if frame.event.session_id == mine:
                    break
    feed.cancel()


async def create_session(world: World) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await world.stranger.sessions.CreateSession(v1.CreateSessionRequest(session_id=world.session_id))
    assert reason_of(caught.value) == ("IDEMPOTENCY_KEY_REUSED", {})


async def update_session(world: World) -> None:
    request = v1.UpdateSessionRequest(session=v1.Session(session_id=world.session_id, title="mine"))
    request.update_mask.paths.append("title")
    await not_found(world.stranger.sessions.UpdateSession(request), "SESSION_NOT_FOUND")


async def list_sessions(world: World) -> None:
    for request in (v1.ListSessionsRequest(page_size=1, page_token=world.page_token), v1.ListSessionsRequest()):
        while True:
            page = await world.stranger.sessions.ListSessions(request)
            assert not any(secret in str(page) for secret in world.secrets)
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token


async def list_approvals(world: World) -> None:
    page = await world.stranger.hitl_service.ListApprovals(v1.ListApprovalsRequest())
    assert list(page.approvals) == []
    chosen = v1.ApprovalFilter(session_ids=[world.session_id])
    page = await world.stranger.hitl_service.ListApprovals(v1.ListApprovalsRequest(filter=chosen))
    assert list(page.approvals) == []


def on_session(service: str, method: str, request: Any) -> Callable[[World], Awaitable[None]]:
    """An RPC that names a session and nothing else that matters."""

    async def walk(world: World) -> None:
        call = getattr(getattr(world.stranger, service), method)
        await not_found(call(request(session_id=world.session_id)), "SESSION_NOT_FOUND")

    return walk


def on_approval(method: str, request: Callable[[World], Any]) -> Callable[[World], Awaitable[None]]:
    """An RPC that names an approval."""

    async def walk(world: World) -> None:
        await not_found(getattr(world.stranger.hitl_service, method)(request(world)), "APPROVAL_NOT_FOUND")

    return walk


def tells_nothing(service: str, method: str, request: Any) -> Callable[[World], Awaitable[None]]:
    """An RPC about what belongs to no tenant."""

    async def walk(world: World) -> None:
        answer = await getattr(getattr(world.stranger, service), method)(request)
        assert not any(secret in str(answer) for secret in world.secrets)

    return walk


WALKS: dict[str, Callable[[World], Awaitable[None]]] = {
    "ChatService.Chat": chat,
    "ChatService.SubmitFrame": submit_frame,
    "HitlService.Hitl": hitl,
    "HitlService.GetApproval": on_approval(
        "GetApproval", lambda world: v1.GetApprovalRequest(approval_id=world.approval.approval_id)
    ),
    "HitlService.ListApprovals": list_approvals,
    "HitlService.DecideApproval": on_approval(
        "DecideApproval", lambda world: v1.DecideApprovalRequest(request_id="d1", decision=world.decision)
    ),
    "SessionService.CreateSession": create_session,
    "SessionService.GetSession": on_session("sessions", "GetSession", v1.GetSessionRequest),
    "SessionService.ListSessions": list_sessions,
    "SessionService.UpdateSession": update_session,
    "SessionService.CloseSession": on_session("sessions", "CloseSession", v1.CloseSessionRequest),
    "SessionService.ForkSession": on_session("sessions", "ForkSession", v1.ForkSessionRequest),
    "SessionService.ListSessionEvents": on_session("sessions", "ListSessionEvents", v1.ListSessionEventsRequest),
    "EventService.SubscribeEvents": subscribe_events,
    "AgentService.GetAgent": tells_nothing("agents", "GetAgent", v1.GetAgentRequest(agent_id="coder")),
    "AgentService.ListAgents": tells_nothing("agents", "ListAgents", v1.ListAgentsRequest()),
    "SystemService.GetServerStatus": tells_nothing("system", "GetServerStatus", v1.GetServerStatusRequest()),
    "SystemService.GetUsage": tells_nothing("system", "GetUsage", v1.GetUsageRequest()),
}


def test_every_rpc_is_walked() -> None:
    """Who adds an RPC says here what a stranger finds there."""
    pool = descriptor_pool.Default()
    served = {method.full_name for name in SERVICES for method in pool.FindServiceByName(name).methods}
    assert {name.removeprefix(PACKAGE) for name in served} == set(WALKS)


@pytest.mark.parametrize("rpc", WALKS)
async def test_a_stranger_finds_nothing(world: World, rpc: str) -> None:
    async with asyncio.timeout(90):
        await WALKS[rpc](world)


async def test_a_stranger_decides_nothing_over_a_session_of_their_own(world: World) -> None:
    await own_stream_on_other_approval(world)


async def test_request_ids_of_tenants_do_not_meet(world: World) -> None:
    request = v1.CreateSessionRequest(request_id=str(uuid.uuid4()))
    theirs = await world.owner.sessions.CreateSession(request)
    mine = await world.stranger.sessions.CreateSession(request)
    assert mine.created
    assert mine.session.session_id != theirs.session.session_id


async def test_nothing_of_it_changed_anything(world: World) -> None:
    session = (await world.owner.sessions.GetSession(v1.GetSessionRequest(session_id=world.session_id))).session
    assert (session.state, session.title) == (v1.SESSION_STATE_ACTIVE, "")
    found = await world.owner.hitl_service.GetApproval(v1.GetApprovalRequest(approval_id=world.approval.approval_id))
    assert (found.approval.state, found.approval.claimant.subject) == (v1.APPROVAL_STATE_PENDING, "")
