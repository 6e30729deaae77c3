"""The reviewer's inbox and the feed of events, over many streams."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from agent_runtime import v1
from agent_runtime_client import CallFailed, CaughtUp, Client, Disconnected, SessionGone, Unreachable
from clientkit.events import call, event
from clientkit.server import ScriptedServer, status, take


def approval(key: str, revision: int = 1, *, pending: bool = True) -> v1.Approval:
    state = v1.APPROVAL_STATE_PENDING if pending else v1.APPROVAL_STATE_EXPIRED
    return v1.Approval(approval_id=key, revision=revision, state=state, tool_call=call("c1", arguments='{"a":1}'))


def told(item: v1.Approval, token: str) -> v1.HitlResponse:
    return v1.HitlResponse(approval=item, resume_token=token)


WELCOME = v1.HitlResponse(welcome=v1.HitlWelcome())
CAUGHT_UP = v1.HitlResponse(caught_up=v1.CaughtUp())


async def test_an_inbox_tells_each_revision_once(server: ScriptedServer, client: Client) -> None:
    wanted = v1.ApprovalFilter(session_ids=["s1"])
    async with client.review(client_id="me", filter=wanted) as review:
        stream = await server.hitl()
        hello = stream.first.hello
        assert (hello.client_id, hello.filter, hello.resume_token) == ("me", wanted, "")
        for frame in (WELCOME, told(approval("a"), "t1"), told(approval("a"), "t1"), CAUGHT_UP):
            await stream.send(frame)
        assert (await anext(review), await anext(review)) == (approval("a"), CaughtUp(0))
        assert review.caught_up


async def test_an_inbox_resumes_at_its_token(server: ScriptedServer, client: Client) -> None:
    async with client.review() as review:
        stream = await server.hitl()
        await stream.send(WELCOME)
        await stream.send(told(approval("a"), "t1"))
        await take(review, v1.Approval)
        stream.end(status(grpc.StatusCode.UNAVAILABLE))
        await take(review, Disconnected)
        stream = await server.hitl()
        assert stream.first.hello.resume_token == "t1"
        await stream.send(v1.HitlResponse(welcome=v1.HitlWelcome(resumed=True)))
        await stream.send(told(approval("a", 2, pending=False), "t2"))
        assert (await take(review, v1.Approval)).revision == 2


async def test_what_ended_while_nobody_listened_is_asked_for(server: ScriptedServer, client: Client) -> None:
    server.approvals["a"] = approval("a", 2, pending=False)
    async with client.review() as review:
        stream = await server.hitl()
        for frame in (WELCOME, told(approval("a"), "t1"), CAUGHT_UP):
            await stream.send(frame)
        await take(review, CaughtUp)
        stream.end(status(grpc.StatusCode.UNAVAILABLE))
        stream = await server.hitl()
        await stream.send(WELCOME)
        await stream.send(CAUGHT_UP)
        assert await take(review, v1.Approval) == server.approvals["a"]


async def test_a_decision_names_what_was_seen(server: ScriptedServer, client: Client) -> None:
    async with client.review() as review, asyncio.TaskGroup() as group:
        stream = await server.hitl()
        await stream.send(WELCOME)
        deciding = group.create_task(review.decide(approval("a", 3), v1.APPROVAL_VERDICT_APPROVE))
        frame = await stream.receive()
        decision = frame.decision
        assert (decision.approval_id, decision.expected_revision) == ("a", 3)
        assert decision.arguments_sha256 == approval("a").tool_call.arguments_sha256
        ack = v1.FrameAck(frame_id=frame.frame_id, outcome=v1.FrameAck.OUTCOME_ACCEPTED, seq=9)
        await stream.send(v1.HitlResponse(frame_ack=ack))
        assert (await deciding).seq == 9


def fed(item: v1.SessionEvent, token: str = "") -> v1.SubscribeEventsResponse:
    return v1.SubscribeEventsResponse(event=item, resume_token=token)


async def seqs(feed: AsyncIterator[v1.SubscribeEventsResponse], count: int) -> list[int]:
    async with asyncio.timeout(5):
        return [(await anext(feed)).event.seq for _ in range(count)]


async def test_a_feed_of_one_session_goes_on_after_its_last_event(server: ScriptedServer, client: Client) -> None:
    feed = client.follow("s1", after_seq=4, include_deltas=True)
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(seqs(feed, 3))
        stream = await server.feed()
        assert (stream.first.session_id, stream.first.after_seq, stream.first.include_deltas) == ("s1", 4, True)
        await stream.send(fed(event(5)))
        stream.end(status(grpc.StatusCode.INTERNAL))
        stream = await server.feed()
        assert stream.first.after_seq == 5
        for seq in (5, 6, 7):
            await stream.send(fed(event(seq)))
        assert await reading == [5, 6, 7]


async def test_a_feed_of_all_sessions_goes_on_at_its_token(server: ScriptedServer, client: Client) -> None:
    feed = client.follow()
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(seqs(feed, 2))
        stream = await server.feed()
        await stream.send(fed(event(9), "t1"))
        stream.end()
        stream = await server.feed()
        assert stream.first.resume_token == "t1"
        await stream.send(fed(event(3), "t2"))
        assert await reading == [9, 3]


async def test_a_feed_of_nothing_ends_with_the_reason(server: ScriptedServer, client: Client) -> None:
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(_outcome(client.follow("s1")))
        (await server.feed()).end(status(grpc.StatusCode.NOT_FOUND, "SESSION_NOT_FOUND"))
        assert isinstance(await reading, SessionGone)


async def _outcome(feed: AsyncIterator[object]) -> object:
    try:
        return await anext(feed)
    except CallFailed as error:
        return error


async def test_events_are_read_page_by_page(server: ScriptedServer, client: Client) -> None:
    server.log = [event(seq) for seq in range(1, 8)]
    assert [item.seq async for item in client.events("s1", after_seq=1)] == [2, 3, 4, 5, 6, 7]
    assert [item.seq async for item in client.events("s1", to_seq=3)] == [1, 2, 3]


async def test_a_call_is_tried_once_more_on_a_new_connection(server: ScriptedServer, client: Client) -> None:
    server.refusals.append(status(grpc.StatusCode.UNAVAILABLE))
    assert (await client.get_session("s1")).session_id == "s1"


async def test_nobody_there_is_an_error_of_its_own(server: ScriptedServer, client: Client) -> None:
    await server.stop()
    with pytest.raises(Unreachable):
        await client.get_session("s1")


async def test_a_refused_call_tells_its_reason_and_fields(server: ScriptedServer, client: Client) -> None:
    server.refusals.append(status(grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED", metadata={"k": "v"}))
    with pytest.raises(CallFailed, match="PERMISSION_DENIED: said by the test") as caught:
        await client.get_session("s1")
    assert (caught.value.code, caught.value.reason, dict(caught.value.metadata)) == (
        "PERMISSION_DENIED",
        "PERMISSION_DENIED",
        {"k": "v"},
    )
