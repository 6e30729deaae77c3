"""A server that asks who calls: keys, roles, and streams whose credentials end."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2

from agent_runtime import v1
from agent_runtime_client import CaughtUp, Client, Connected
from agent_runtime_server.app import SERVICES
from agent_runtime_server.core.principal import Role
from agent_runtime_server.rpc.access import ACCESS, PACKAGE
from servicekit.keys import KeyRing, keys_of
from servicekit.process import ServerProcess, serving
from servicekit.service import Service, reason_of
from servicekit.streams import refusal

ASKING = {
    "AGENT_RUNTIME_AUTH_MODE": "required",
    "AGENT_RUNTIME_HITL_TIMEOUT": "3600",
    "AGENT_RUNTIME_AUTH_FORBID_SELF_APPROVAL": "true",
}

METHODS = [method for name in SERVICES for method in descriptor_pool.Default().FindServiceByName(name).methods]
NAMES = [method.full_name.removeprefix(PACKAGE) for method in METHODS]

Open = Callable[[str | None], Awaitable[Service]]


@pytest.fixture(scope="module")
async def asking() -> AsyncIterator[ServerProcess]:
    async with serving(ASKING) as server:
        yield server


@pytest.fixture(scope="module")
async def keys(asking: ServerProcess) -> AsyncIterator[KeyRing]:
    async with keys_of(asking) as ring:
        yield ring


@pytest.fixture
async def connect(asking: ServerProcess) -> AsyncIterator[Open]:
    """Opens connections with a key."""
    async with AsyncExitStack() as stack:

        async def opened(key: str | None) -> Service:
            service = Service(asking.target, key)
            await stack.enter_async_context(service.channel)
            return service

        yield opened


async def called(service: Service, method: MethodDescriptor, key: str = "") -> tuple[grpc.StatusCode, str, str]:
    """Call an RPC with an empty request and return its code, reason and text; OK when it goes on."""
    for _ in range(20):
        told = await _called(service, method, key)
        if told[0] is not grpc.StatusCode.INTERNAL:  # what gRPC makes of a write that races with a refusal
            break
    return told


async def _called(service: Service, method: MethodDescriptor, key: str) -> tuple[grpc.StatusCode, str, str]:
    request, answer = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
    path = f"/{method.containing_service.full_name}/{method.name}"
    channel: Any = service.channel
    metadata = (("authorization", key),) if key else ()
    codec = (request.SerializeToString, answer.FromString)
    try:
        if not method.server_streaming:
            await channel.unary_unary(path, *codec)(request(), metadata=metadata)
        elif not method.client_streaming:
            call = channel.unary_stream(path, *codec)(request(), metadata=metadata)
            await call.read()
            call.cancel()
        else:
            call = channel.stream_stream(path, *codec)(metadata=metadata)
            await call.write(request())
            assert await call.read() is grpc.aio.EOF
            raise await _as_error(call)
    except grpc.aio.AioRpcError as error:
        return error.code(), reason_of(error)[0], error.details() or ""
    return grpc.StatusCode.OK, "", ""


async def _as_error(call: Any) -> grpc.aio.AioRpcError:
    trailing = await call.trailing_metadata()
    return grpc.aio.AioRpcError(await call.code(), await call.initial_metadata(), trailing, await call.details())


@pytest.mark.parametrize("method", METHODS, ids=NAMES)
async def test_nobody_calls_without_credentials(connect: Open, method: MethodDescriptor) -> None:
    code, reason, text = await called(await connect(None), method)
    assert (code, reason) == (grpc.StatusCode.UNAUTHENTICATED, "CREDENTIALS_INVALID")
    assert "Bearer" in text


async def test_health_is_open(connect: Open) -> None:
    answer = await (await connect(None)).health.Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda key: f"Basic {key}", "must read"),
        (lambda _key: "Bearer ", "no API key"),
        (lambda _key: "Bearer a.b.c", "no API key"),
        (lambda key: f"Bearer {key[:-1]}{'0' if key[-1] != '0' else '1'}", "unknown, revoked or expired"),
        (lambda _key: "Bearer ark_000000000000_" + 48 * "0", "unknown, revoked or expired"),
        (lambda key: f"Bearer {key} x", "unknown, revoked or expired"),
    ],
    ids=["another scheme", "nothing", "a token", "a wrong secret", "an unknown key", "more than a key"],
)
async def test_what_is_no_good_key_is_refused(
    connect: Open, keys: KeyRing, spoil: Callable[[str], str], text: str
) -> None:
    key = await keys.new("acme", "ann")
    method = METHODS[NAMES.index("SessionService.ListSessions")]
    service = await connect(None)
    assert (await called(service, method, f"Bearer {key}"))[0] is grpc.StatusCode.OK
    code, reason, told = await called(service, method, spoil(key))
    assert (code, reason) == (grpc.StatusCode.UNAUTHENTICATED, "CREDENTIALS_INVALID")
    assert text in told
    assert key[8:] not in told


async def test_an_expired_and_a_revoked_key_are_refused(connect: Open, keys: KeyRing) -> None:
    method = METHODS[NAMES.index("SessionService.ListSessions")]
    expired, revoked = await keys.new("acme", "ann", seconds=-1), await keys.new("acme", "ann")
    await keys.revoke(revoked)
    for key in (expired, revoked):
        assert (await called(await connect(None), method, f"Bearer {key}"))[1] == "CREDENTIALS_INVALID"


@pytest.mark.parametrize("role", list(Role))
async def test_a_role_opens_what_the_table_says(connect: Open, keys: KeyRing, role: Role) -> None:
    service, key = await connect(None), await keys.new("acme", f"only-{role}", role)
    for name, method in zip(NAMES, METHODS, strict=True):
        code, _, text = await called(service, method, f"Bearer {key}")
        allowed = role in ACCESS[name] or role is Role.ADMIN
        assert (code is not grpc.StatusCode.PERMISSION_DENIED) == allowed, (name, code, text)
        if not allowed:
            assert str(min(ACCESS[name])) in text


async def test_reviewers_do_not_chat_and_users_do_not_decide(connect: Open, keys: KeyRing) -> None:
    user, reviewer = (
        await connect(await keys.new("acme", "u", "user")),
        await connect(await keys.new("acme", "r", "reviewer")),
    )
    session_id = await user.new_session()
    async with user.chat(session_id) as chat:
        await chat.say("create file a.txt with hi")
        approval = (await chat.event("approval_requested")).approval_requested.approval
        decision = v1.ApprovalDecision(
            approval_id=approval.approval_id,
            arguments_sha256=approval.tool_call.arguments_sha256,
            verdict=v1.APPROVAL_VERDICT_REJECT,
        )
        ack = await chat.submit(approval_decision=decision)
        assert ack.error.reason == "PERMISSION_DENIED"
        shown = await user.hitl_service.GetApproval(v1.GetApprovalRequest(approval_id=approval.approval_id))
        assert not shown.approval.decidable_by_caller
        async with reviewer.review() as inbox:
            assert (await inbox.approval(session_id)).decidable_by_caller
            assert inbox.reviewer == "r"
        await reviewer.hitl_service.DecideApproval(v1.DecideApprovalRequest(request_id="d1", decision=decision))
        resolved = (await chat.event("approval_resolved")).approval_resolved.approval
        assert (resolved.decided_by.subject, resolved.decided_by.kind) == ("r", v1.ACTOR_KIND_REVIEWER)
    error = await refusal(partial(reviewer.chat, session_id))
    assert error.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_nobody_approves_what_they_asked_for(connect: Open, keys: KeyRing) -> None:
    owner, asker, other = [await connect(await keys.new("acme", name)) for name in ("owner", "asker", "other")]
    session_id = await owner.new_session()
    async with asker.chat(session_id) as chat:
        await chat.say("create file a.txt with hi")
        approval = (await chat.event("approval_requested")).approval_requested.approval
        decision = v1.ApprovalDecision(
            approval_id=approval.approval_id,
            arguments_sha256=approval.tool_call.arguments_sha256,
            verdict=v1.APPROVAL_VERDICT_APPROVE,
        )
        assert (await chat.submit(approval_decision=decision)).error.reason == "SELF_APPROVAL_FORBIDDEN"
        async with owner.review() as inbox:
            await inbox.frame("caught_up")
            await inbox.write(v1.HitlRequest(frame_id="h1", decision=decision))
            assert (await inbox.ack("h1")).error.reason == "SELF_APPROVAL_FORBIDDEN"
        request = v1.DecideApprovalRequest(request_id="d1", decision=decision)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await owner.hitl_service.DecideApproval(request)
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        await other.hitl_service.DecideApproval(request)
        resolved = (await chat.event("approval_resolved")).approval_resolved.approval
        assert (resolved.state, resolved.decided_by.subject) == (v1.APPROVAL_STATE_APPROVED, "other")


async def test_what_a_caller_does_is_theirs(connect: Open, keys: KeyRing) -> None:
    service = await connect(await keys.new("acme", "ann"))
    async with service.chat(await service.new_session(), client_id="somebody-else") as chat:
        await chat.say("list")
        assert (await chat.event("user_message")).actor.subject == "ann"


@asynccontextmanager
async def all_streams(service: Service) -> AsyncIterator[list[Any]]:
    """Open a stream of every kind and wait until each has caught up."""
    session_id = await service.new_session()
    async with service.chat(session_id) as chat, service.review() as review:
        await chat.caught_up()
        await review.frame("caught_up")
        calls = [service.events.SubscribeEvents(v1.SubscribeEventsRequest(session_id=one)) for one in (session_id, "")]
        for call in calls:
            while not (await call.read()).HasField("caught_up"):
                pass
        yield [chat, review, *calls]


async def drained(feed: Any) -> tuple[list[Any], grpc.aio.AioRpcError]:
    """Read a feed to the error that ends it."""
    frames = []
    try:
        while (frame := await feed.read()) is not grpc.aio.EOF:
            frames.append(frame)
    except grpc.aio.AioRpcError as error:
        return frames, error
    raise AssertionError("the feed ended well")


async def test_streams_are_warned_and_ended_when_credentials_expire(connect: Open, keys: KeyRing) -> None:
    service = await connect(await keys.new("acme", "ann", seconds=8))
    async with all_streams(service) as (chat, review, *feeds), asyncio.timeout(60):
        for stream in (chat, review):
            assert (await stream.frame("go_away")).reason == v1.GoAway.REASON_CREDENTIALS_EXPIRING
            error = await stream.end()
            assert (error.code(), reason_of(error)[0]) == (grpc.StatusCode.UNAUTHENTICATED, "CREDENTIALS_INVALID")
        for feed in feeds:
            frames, error = await drained(feed)
            assert error.code() is grpc.StatusCode.UNAUTHENTICATED
            assert any(frame.go_away.reason == v1.GoAway.REASON_CREDENTIALS_EXPIRING for frame in frames)


async def test_streams_of_a_revoked_key_end(connect: Open, keys: KeyRing) -> None:
    key = await keys.new("acme", "ann")
    service, other = await connect(key), await connect(await keys.new("acme", "ben"))
    async with all_streams(service) as (chat, review, *feeds), other.review() as untouched, asyncio.timeout(60):
        await keys.revoke(key)
        for stream in (chat, review):
            error = await stream.end()
            assert error.code() is grpc.StatusCode.UNAUTHENTICATED
        for feed in feeds:
            _, error = await drained(feed)
            assert "revoked" in (error.details() or "")
        await untouched.frame("caught_up")
        assert not untouched.ended


async def test_a_client_with_fresh_credentials_goes_on(asking: ServerProcess, keys: KeyRing) -> None:
    late = [await keys.new("acme", "ann"), await keys.new("acme", "ann", seconds=4)]

    async def token() -> str:
        return late.pop() if len(late) > 1 else late[0]

    async with Client(asking.target, token=token) as client:
        session = await client.create_session(agent_id="coder")
        late.append(await keys.new("acme", "ann", seconds=4))
        async with client.chat(session.session_id) as chat, asyncio.timeout(60):
            connected = 0
            async for update in chat:
                connected += isinstance(update, Connected)
                if connected == 2 and isinstance(update, CaughtUp):
                    break
            await chat.send("list")
        late.append(await keys.new("acme", "ann", seconds=-1))
        assert (await client.get_session(session.session_id)).head_seq > 1


async def test_keys_are_made_at_the_terminal(connect: Open, keys: KeyRing) -> None:
    async def run(*arguments: str) -> tuple[int | None, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "agent_runtime_cli", "keys", *arguments,
            env={**os.environ, "AGENT_RUNTIME_DATABASE_URL": keys.database_url},
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        said = (await process.communicate())[0].decode()
        return process.returncode, said

    status, said = await run("create", "--tenant", "terminal", "--subject", "tim", "--role", "user")
    key = said.splitlines()[-1]
    assert status == 0
    service = await connect(key)
    await service.sessions.ListSessions(v1.ListSessionsRequest())
    status, listed = await run("list", "--tenant", "terminal")
    key_id, tenant, subject, roles, *_ = listed.strip().split("\t")
    assert (status, tenant, subject, roles) == (0, "terminal", "tim", "user")
    assert key_id in key
    assert key not in listed
    status, said = await run("rotate", key, "--grace-hours", "1")
    new = said.splitlines()[-1]
    assert status == 0
    for good in (key, new):
        service = await connect(good)
        await service.sessions.ListSessions(v1.ListSessionsRequest())
    assert (await run("revoke", key_id))[0] == 0
    old, replacing = (await run("list", "--tenant", "terminal"))[1].splitlines()
    assert ("revoked" in old, replacing.split("\t")[0] in new, "\ttim\tuser\t" in replacing) == (True, True, True)
