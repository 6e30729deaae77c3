"""A chat over one stream and over many: nothing lost, nothing twice."""

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from agent_runtime import v1
from agent_runtime_client import (
    CallFailed,
    CaughtUp,
    Chat,
    ChatClosed,
    Client,
    ClientError,
    Connected,
    Disconnected,
    Event,
    Notice,
    Rejected,
    SessionGone,
    Superseded,
    TextDelta,
    Timing,
)
from clientkit.events import event
from clientkit.server import ScriptedServer, status, take, until


async def events_of(chat: Chat, count: int) -> list[int]:
    return [(await take(chat, Event)).event.seq for _ in range(count)]


async def test_hello_says_who_and_from_where(server: ScriptedServer, client: Client) -> None:
    async with client.chat("s1", client_id="me", after_seq=7, durable_only=True):
        stream = await server.chat()
    hello = stream.hello
    assert (hello.session_id, hello.client_id, hello.after_seq, hello.durable_only) == ("s1", "me", 7, True)
    assert (hello.role, hello.protocol_version) == (v1.ATTACH_ROLE_OBSERVER, 1)
    assert stream.metadata["authorization"] == "Bearer k"


async def test_a_welcome_comes_first_with_its_notices_once(server: ScriptedServer, client: Client) -> None:
    async with client.chat("s1") as chat:
        for _ in range(2):
            stream = await server.chat()
            await stream.welcome(notices=["a mock model answers"])
            assert isinstance(await anext(chat), Connected)
            if _ == 0:
                assert await anext(chat) == Notice("a mock model answers")
            assert await anext(chat) == CaughtUp(0)
            stream.end(status(grpc.StatusCode.UNAVAILABLE))
            assert isinstance(await anext(chat), Disconnected)


async def test_send_returns_the_servers_ack(server: ScriptedServer, client: Client) -> None:
    async with client.chat("s1") as chat, asyncio.TaskGroup() as group:
        stream = await server.chat()
        await stream.welcome()
        sending = group.create_task(chat.send("hello", agent_id="coder"))
        frame = await stream.receive()
        assert frame.user_message.parts[0].text == "hello"
        assert frame.user_message.agent_id == "coder"
        await stream.ack(frame, seq=4)
        assert (await sending).seq == 4


async def test_a_refused_frame_raises_and_leaves_the_stream_alone(server: ScriptedServer, client: Client) -> None:
    async with client.chat("s1") as chat, asyncio.TaskGroup() as group:
        stream = await server.chat()
        await stream.welcome()
        sending = group.create_task(_outcome(chat.cancel()))
        error = v1.Error(code=5, reason="TURN_NOT_FOUND", message="no turn is running")
        await stream.ack(await stream.receive(), error=error)
        refusal = await sending
        assert isinstance(refusal, Rejected)
        assert (refusal.reason, str(refusal)) == ("TURN_NOT_FOUND", "TURN_NOT_FOUND: no turn is running")
        await stream.events(event(1))
        assert await events_of(chat, 1) == [1]


async def test_unconfirmed_frames_are_sent_again_with_the_same_id(server: ScriptedServer, client: Client) -> None:
    async with client.chat("s1") as chat, asyncio.TaskGroup() as group:
        stream = await server.chat()
        await stream.welcome()
        sends = [group.create_task(chat.send(text)) for text in ("one", "two", "three")]
        before = [await stream.receive() for _ in sends]
        await stream.ack(before[0], seq=1)
        await sends[0]
        stream.end(status(grpc.StatusCode.UNAVAILABLE))
        # The second one was committed, but its ack was lost: its event proves it.
        stream = await server.chat()
        await stream.welcome(event(1), event(2, frame_id=before[1].frame_id))
        assert (await sends[1]).seq == 2
        again = [await stream.receive(), await stream.receive()]
        assert [frame.frame_id for frame in again] == [frame.frame_id for frame in before[1:]]
        await stream.ack(again[1], seq=3, duplicate=True)
        assert (await sends[2]).outcome == v1.FrameAck.OUTCOME_DUPLICATE


async def test_frames_given_while_there_is_no_server_wait_for_it(server: ScriptedServer, client: Client) -> None:
    await server.stop()
    async with client.chat("s1") as chat, asyncio.TaskGroup() as group:
        sending = group.create_task(chat.send("hello"))
        assert isinstance(await anext(chat), Disconnected)
        await server.start(server.port)
        stream = await server.chat()
        await stream.welcome()
        await stream.ack(await stream.receive(), seq=1)
        assert (await sending).seq == 1


async def test_a_reconnect_goes_on_after_the_last_event_and_drops_known_ones(
    server: ScriptedServer, client: Client
) -> None:
    async with client.chat("s1") as chat:
        stream = await server.chat()
        await stream.welcome(event(1), event(2))
        assert await events_of(chat, 2) == [1, 2]
        stream.end(status(grpc.StatusCode.INTERNAL))
        stream = await server.chat()
        assert stream.hello.after_seq == 2
        await stream.welcome(event(2), event(3))
        assert await events_of(chat, 1) == [3]
        assert chat.last_seq == 3


async def test_a_jump_in_seq_leads_to_a_reconnect(server: ScriptedServer, client: Client) -> None:
    async with client.chat("s1") as chat:
        stream = await server.chat()
        await stream.welcome(event(1), event(3))
        assert await events_of(chat, 1) == [1]
        assert "event 3 came after 1" in (await take(chat, Disconnected)).reason
        stream = await server.chat()
        assert stream.hello.after_seq == 1


async def test_an_unknown_kind_of_event_still_moves_on(server: ScriptedServer, client: Client) -> None:
    async with client.chat("s1") as chat:
        stream = await server.chat()
        await stream.welcome(event(1), event(2, session_closed=v1.SessionClosed()))
        await stream.send(v1.ChatResponse())
        await stream.events(event(3))
        assert await events_of(chat, 3) == [1, 2, 3]


@pytest.mark.parametrize(
    "how",
    [
        None,
        status(grpc.StatusCode.UNAVAILABLE, "SERVER_DRAINING"),
        status(grpc.StatusCode.UNKNOWN),
        status(grpc.StatusCode.DEADLINE_EXCEEDED),
        status(grpc.StatusCode.CANCELLED),
        status(grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS", retry_delay=0.01),
        status(grpc.StatusCode.UNAUTHENTICATED, "CREDENTIALS_INVALID"),
    ],
    ids=["OK", "UNAVAILABLE", "UNKNOWN", "DEADLINE", "CANCELLED", "TOO_MANY_STREAMS", "UNAUTHENTICATED"],
)
async def test_it_comes_back_after(server: ScriptedServer, client: Client, how: Any) -> None:
    async with client.chat("s1") as chat:
        (await server.chat()).end(how)
        stream = await server.chat()
        await stream.welcome(event(1))
        assert await events_of(chat, 1) == [1]


@pytest.mark.parametrize(
    ("how", "error"),
    [
        (status(grpc.StatusCode.NOT_FOUND, "SESSION_NOT_FOUND"), SessionGone),
        (status(grpc.StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED"), CallFailed),
        (status(grpc.StatusCode.FAILED_PRECONDITION, "SEQ_AHEAD_OF_LOG"), CallFailed),
        (status(grpc.StatusCode.UNIMPLEMENTED), CallFailed),
        (status(grpc.StatusCode.RESOURCE_EXHAUSTED), CallFailed),
        (status(grpc.StatusCode.ABORTED, "ATTACHMENT_SUPERSEDED"), Superseded),
    ],
)
async def test_it_ends_for_good_after(
    server: ScriptedServer, client: Client, how: Any, error: type[CallFailed]
) -> None:
    async with client.chat("s1") as chat, asyncio.TaskGroup() as group:
        sending = group.create_task(_outcome(chat.send("hello")))
        (await server.chat()).end(how)
        with pytest.raises(error):
            await take(chat, Event)
        assert isinstance(await sending, error)
        with pytest.raises(error):
            await chat.send("again")


async def _outcome(work: Any) -> object:
    try:
        return await work
    except ClientError as error:
        return error


async def test_credentials_refused_twice_end_the_chat(server: ScriptedServer, client: Client) -> None:
    refused = status(grpc.StatusCode.UNAUTHENTICATED, "CREDENTIALS_INVALID")
    server.refusals += [refused, refused]
    async with client.chat("s1") as chat:
        with pytest.raises(CallFailed, match="CREDENTIALS_INVALID"):
            await take(chat, Connected)


async def test_a_compacted_log_is_read_from_what_is_left(server: ScriptedServer, client: Client) -> None:
    gone = status(grpc.StatusCode.OUT_OF_RANGE, "SEQ_COMPACTED", metadata={"oldestSeq": "40", "headSeq": "50"})
    async with client.chat("s1", after_seq=3) as chat:
        (await server.chat()).end(gone)
        assert await take(chat, Notice) == Notice("events 4 to 39 are no longer kept")
        stream = await server.chat()
        assert stream.hello.after_seq == 39
        await stream.welcome(event(40))
        assert await events_of(chat, 1) == [40]


async def test_the_delay_the_server_asks_for_is_kept(server: ScriptedServer, client: Client) -> None:
    async with client.chat("s1") as chat:
        (await server.chat()).end(status(grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS", retry_delay=0.2))
        assert 0.2 <= (await take(chat, Disconnected)).retry_in <= 0.25


async def test_go_away_moves_to_a_new_stream_before_the_old_one_ends(server: ScriptedServer, client: Client) -> None:
    async with client.chat("s1") as chat, asyncio.TaskGroup() as group:
        old = await server.chat()
        await old.welcome(event(1))
        await old.send(v1.ChatResponse(go_away=v1.GoAway(time_left=Duration(seconds=25))))
        new = await server.chat()
        # Until the new stream is welcomed, the old one works in both directions.
        await old.events(event(2))
        assert await events_of(chat, 2) == [1, 2]
        sending = group.create_task(chat.send("hello"))
        frame = await old.receive()
        await new.welcome(event(2), event(3))
        old.end(status(grpc.StatusCode.ABORTED, "ATTACHMENT_SUPERSEDED"))
        again = await new.receive()
        assert again.frame_id == frame.frame_id
        await new.ack(again, seq=4)
        assert (await sending).seq == 4
        seen = []
        async for update in chat:
            assert not isinstance(update, Disconnected)
            if isinstance(update, Event):
                seen.append(update.event.seq)
                break
        assert seen == [3]


async def test_go_away_from_a_server_that_is_alone_waits_for_the_next_one(
    server: ScriptedServer, client: Client
) -> None:
    async with client.chat("s1") as chat:
        old = await server.chat()
        await old.welcome()
        draining = status(grpc.StatusCode.UNAVAILABLE, "SERVER_DRAINING", retry_delay=0.01)
        server.refusals += [draining, draining]
        await old.send(v1.ChatResponse(go_away=v1.GoAway()))
        new = await server.chat()
        await old.events(event(1))
        old.end(draining)
        assert await events_of(chat, 1) == [1]
        await new.welcome(event(1), event(2))
        assert await events_of(chat, 1) == [2]


async def test_a_delayed_move_is_made_at_once_when_the_old_stream_ends(server: ScriptedServer, client: Client) -> None:
    async with client.chat("s1") as chat:
        old = await server.chat()
        await old.welcome(event(1))
        await old.send(v1.ChatResponse(go_away=v1.GoAway(reconnect_delay=Duration(seconds=1000))))
        assert await events_of(chat, 1) == [1]
        old.end(status(grpc.StatusCode.UNAVAILABLE))
        await (await server.chat()).welcome(event(2))
        assert await events_of(chat, 1) == [2]


async def test_credentials_that_ran_out_do_not_stop_a_move(server: ScriptedServer, client: Client) -> None:
    async with client.chat("s1") as chat:
        old = await server.chat()
        await old.welcome()
        server.refusals.append(status(grpc.StatusCode.UNAUTHENTICATED, "CREDENTIALS_INVALID"))
        await old.send(v1.ChatResponse(go_away=v1.GoAway()))
        await until(lambda: not server.refusals)
        await old.events(event(1))
        assert await events_of(chat, 1) == [1]
        old.end(status(grpc.StatusCode.UNAVAILABLE))
        await (await server.chat()).welcome(event(2))
        assert await events_of(chat, 1) == [2]


async def test_a_silent_server_is_left_for_a_new_connection(server: ScriptedServer) -> None:
    timing = Timing(silence_seconds=0.2, backoff_first=0.01)
    async with Client(server.target, timing=timing) as client, client.chat("s1") as chat:
        silent = await server.chat()
        await silent.welcome(event(1))
        assert await events_of(chat, 1) == [1]
        assert "nothing heard for 0.2 s" in (await take(chat, Disconnected)).reason
        stream = await server.chat()
        assert stream.peer != silent.peer
        await stream.welcome(event(2))
        assert await events_of(chat, 1) == [2]


async def test_pings_are_sent_when_there_is_nothing_to_say(server: ScriptedServer) -> None:
    async with Client(server.target, timing=Timing(ping_seconds=0.05)) as client, client.chat("s1"):
        stream = await server.chat()
        await stream.welcome()
        for _ in range(3):
            assert (await stream.receive()).WhichOneof("frame") == "ping"


async def test_deltas_come_in_order_and_once(server: ScriptedServer, client: Client) -> None:
    async with client.chat("s1") as chat:
        stream = await server.chat()
        await stream.welcome()
        await take(chat, CaughtUp)
        for index, text in ((0, "He"), (0, "He"), (1, "llo")):
            delta = v1.MessageDelta(
                turn_id="t",
                message_id="m",
                attempt=1,
                channel=v1.MessageDelta.CHANNEL_TEXT,
                index=index,
                text=text,
            )
            await stream.send(v1.ChatResponse(message_delta=delta))
        await stream.events(event(1))
        text = ""
        async for update in chat:
            if isinstance(update, Event):
                break
            assert isinstance(update, TextDelta)
            text += update.text
        assert text == "Hello"


async def test_an_application_that_does_not_read_holds_the_stream_back(server: ScriptedServer, client: Client) -> None:
    big = v1.SessionClosed(reason="x" * 100_000)
    async with client.chat("s1") as chat:
        stream = await server.chat()
        await stream.welcome()
        sent = 0

        async def flood() -> None:
            nonlocal sent
            for seq in range(1, 1001):
                await stream.events(event(seq, session_closed=big))
                sent = seq

        async with asyncio.TaskGroup() as group:
            flooding = group.create_task(flood())
            await until(lambda: sent > 250)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await until(lambda: sent == 1000)
            # Waiting for an ack must not be held back by what was not read.
            sending = group.create_task(chat.send("hello"))
            frame = await stream.receive()
            await until(flooding.done)
            await stream.ack(frame, seq=1001)
            await sending
        assert await events_of(chat, 1000) == list(range(1, 1001))


async def test_a_frame_the_server_would_choke_on_is_refused_here(server: ScriptedServer, client: Client) -> None:
    async with client.chat("s1") as chat:
        await (await server.chat()).welcome(limits=v1.StreamLimits(max_frame_bytes=1000))
        await take(chat, CaughtUp)
        with pytest.raises(Rejected, match="FRAME_TOO_LARGE"):
            await chat.send("x" * 1000)


async def test_closing_ends_the_iteration_and_what_waits(server: ScriptedServer, client: Client) -> None:
    async with client.chat("s1") as chat:
        stream = await server.chat()
        await stream.welcome()
        await take(chat, CaughtUp)
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(_outcome(chat.send("hello")))
            await stream.receive()
            await chat.aclose()
            assert isinstance(await sending, ChatClosed)
        assert [update async for update in chat] == []


AWAY = v1.Error(code=14, reason="DEPENDENCY_UNAVAILABLE", message="the database is unavailable")
TOO_OFTEN = v1.Error(code=8, reason="QUOTA_EXCEEDED", message="the limit of 1 turn a minute is reached")


def refused(frame_id: str, seconds: float = 0.05, why: v1.Error = AWAY) -> v1.ChatResponse:
    """A frame that cannot be committed now."""
    error = v1.Error()
    error.CopyFrom(why)
    error.retry_delay.FromNanoseconds(int(seconds * 1e9))
    return v1.ChatResponse(frame_ack=v1.FrameAck(frame_id=frame_id, outcome=v1.FrameAck.OUTCOME_REJECTED, error=error))


async def test_a_frame_that_cannot_be_taken_now_is_sent_again_as_it_was(server: ScriptedServer, client: Client) -> None:
    async with client.chat("s1") as chat, asyncio.TaskGroup() as group:
        stream = await server.chat()
        await stream.welcome()
        sending = group.create_task(chat.send("hello"))
        first = await stream.receive()
        for _ in range(3):
            await stream.send(refused(first.frame_id))
            assert await stream.receive() == first
        assert not sending.done()
        await stream.ack(first, seq=2)
        assert (await sending).seq == 2
        assert (await take(chat, Notice)).text.startswith("the database is unavailable; trying again")


async def test_frames_that_cannot_be_taken_now_keep_their_order(server: ScriptedServer, client: Client) -> None:
    async with client.chat("s1") as chat, asyncio.TaskGroup() as group:
        stream = await server.chat()
        await stream.welcome()
        sending = [group.create_task(chat.send("one"))]
        first = await stream.receive()
        await stream.send(refused(first.frame_id, 0.2))
        await take(chat, Notice)
        sending.append(group.create_task(chat.send("two")))
        assert await stream.receive() == first
        second = await stream.receive()
        assert second.user_message.parts[0].text == "two"
        for seq, frame in enumerate((first, second), start=2):
            await stream.ack(frame, seq=seq)
        assert [(await one).seq for one in sending] == [2, 3]


async def test_a_quota_holds_up_messages_in_their_order_and_nothing_else(
    server: ScriptedServer, client: Client
) -> None:
    async with client.chat("s1") as chat, asyncio.TaskGroup() as group:
        stream = await server.chat()
        await stream.welcome()
        sending = [group.create_task(chat.send("one"))]
        first = await stream.receive()
        await stream.send(refused(first.frame_id, 0.3, TOO_OFTEN))
        assert (await take(chat, Notice)).text.startswith("the limit of 1 turn a minute is reached; trying again")
        sending.append(group.create_task(chat.send("two")))
        cancelling = group.create_task(chat.cancel())
        cancel = await stream.receive()
        assert cancel.HasField("cancel_turn")
        await stream.ack(cancel, seq=2)
        await cancelling
        assert await stream.receive() == first
        second = await stream.receive()
        assert second.user_message.parts[0].text == "two"
        for seq, frame in enumerate((first, second), start=3):
            await stream.ack(frame, seq=seq)
        assert [(await one).seq for one in sending] == [3, 4]


async def test_a_quota_that_is_away_for_longer_than_patience_is_told_at_once(
    server: ScriptedServer, client: Client
) -> None:
    async with client.chat("s1") as chat:
        stream = await server.chat()
        await stream.welcome()
        sending = asyncio.ensure_future(chat.send("hello"))  # noqa: TID251 - awaited below
        frame = await stream.receive()
        await stream.send(refused(frame.frame_id, 3600, TOO_OFTEN))
        with pytest.raises(Rejected, match="QUOTA_EXCEEDED") as caught:
            await sending
        assert caught.value.error.retry_delay.seconds == 3600


async def test_patience_with_a_server_that_cannot_take_frames_has_an_end(server: ScriptedServer) -> None:
    async with Client(server.target, timing=Timing(refused_seconds=0)) as client, client.chat("s1") as chat:
        stream = await server.chat()
        await stream.welcome()
        sending = asyncio.ensure_future(chat.send("hello"))  # noqa: TID251 - awaited below
        frame = await stream.receive()
        await stream.send(refused(frame.frame_id))
        assert await stream.receive() == frame
        await stream.send(refused(frame.frame_id))
        with pytest.raises(Rejected, match="DEPENDENCY_UNAVAILABLE"):
            await sending


async def test_what_was_held_up_goes_out_with_the_next_stream(server: ScriptedServer, client: Client) -> None:
    async with client.chat("s1") as chat, asyncio.TaskGroup() as group:
        stream = await server.chat()
        await stream.welcome()
        sending = group.create_task(chat.send("hello"))
        frame = await stream.receive()
        await stream.send(refused(frame.frame_id, 60))
        await take(chat, Notice)
        stream.end(status(grpc.StatusCode.UNAVAILABLE))
        stream = await server.chat()
        await stream.welcome()
        assert await stream.receive() == frame
        await stream.ack(frame, seq=2)
        assert (await sending).seq == 2
