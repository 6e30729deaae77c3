"""Streams come and go; the log stays, and each event is told once and in order."""

from collections.abc import AsyncIterator

import asyncpg
import grpc
import pytest

from agent_runtime import v1
from agent_runtime_server.embedded import embedded
from agent_runtime_server.mockllm.server import MockServer
from servicekit.model import calls, says
from servicekit.process import ServerProcess
from servicekit.service import STANDARD_TOOLS, Service, reason_of, tools

OBSERVER = {"client_id": "observer-1", "role": v1.ATTACH_ROLE_OBSERVER, "tools": []}


@pytest.fixture
async def database(server: ServerProcess) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A connection to the server's own database."""
    async with embedded(server.state_dir, want_redis=False) as servers:
        connection = await asyncpg.connect(servers.database_url)
        yield connection
        await connection.close()


async def test_a_repeated_frame_is_answered_and_not_applied(service: Service, model: MockServer) -> None:
    model.use([says("Hello.")])
    message = v1.UserMessage(parts=[v1.Part(text="hi")])
    async with service.chat(await service.new_session()) as chat:
        first = await chat.submit(frame_id="f1", user_message=message)
        again = await chat.submit(frame_id="f1", user_message=message)
        other = await chat.submit(frame_id="f1", user_message=v1.UserMessage(parts=[v1.Part(text="ho")]))
        await chat.finished()
    assert (first.outcome, again.outcome) == (v1.FrameAck.OUTCOME_ACCEPTED, v1.FrameAck.OUTCOME_DUPLICATE)
    assert again.seq == first.seq
    assert chat.events[first.seq - 1].frame_id == "f1"
    assert other.error.reason == "IDEMPOTENCY_KEY_REUSED"
    assert chat.kinds().count("user_message") == 1


async def test_a_client_resumes_behind_the_last_event_it_has_seen(service: Service, model: MockServer) -> None:
    model.use([calls(("read_file", {"path": "a"}), ("read_file", {"path": "b"})), says("Both read.")])
    session_id = await service.new_session()
    lost = v1.ToolResult(status=v1.ToolResult.STATUS_SUCCEEDED, content=[v1.Part(text="a")])
    async with service.chat(session_id) as chat:
        await chat.say("read")
        a, b = await chat.calls(2)
        seen = chat.events[-1].seq
        lost.call_id = a.call_id
        acked = await chat.submit(frame_id="f5", tool_result=lost)
    async with service.chat(session_id, after_seq=seen) as again:
        welcome = await again.frame("welcome")
        assert (welcome.role, welcome.executor_epoch) == (v1.ATTACH_ROLE_EXECUTOR, 1)
        assert (await again.caught_up()).head_seq == welcome.head_seq == acked.seq
        assert [(event.seq, event.frame_id) for event in again.events] == [(acked.seq, "f5")]
        repeated = await again.submit(frame_id="f5", tool_result=lost)
        assert (repeated.outcome, repeated.seq) == (v1.FrameAck.OUTCOME_DUPLICATE, acked.seq)
        await again.result(b.call_id)
        assert (await again.finished()).state == v1.TURN_STATE_COMPLETED
    assert [event.seq for event in again.events] == [*range(seen + 1, seen + 1 + len(again.events))]


async def test_who_attaches_during_generation_gets_the_text_so_far(service: Service, model: MockServer) -> None:
    model.use([says("one two three four", fault={"kind": "hang_mid", "after_tokens": 3})])
    session_id = await service.new_session()
    async with service.chat(session_id) as chat:
        await chat.say("count")

        def text() -> str:
            return "".join(delta.text for delta in chat.all("message_delta"))

        await chat.until(lambda: text() == "one two three" or None, "three words")
        async with service.chat(session_id, **OBSERVER) as late:
            delta = await late.frame("message_delta")
            kinds = [frame.WhichOneof("frame") for frame in late.frames]
        await chat.submit(cancel_turn=v1.CancelTurn())
        await chat.finished()
    assert (delta.replace, delta.text) == (True, "one two three")
    assert delta.index == chat.all("message_delta")[-1].index
    assert delta.message_id == chat.all("message_delta")[-1].message_id
    assert kinds.index("caught_up") < kinds.index("message_delta")


async def test_deltas_add_up_to_the_message(service: Service, model: MockServer) -> None:
    model.use([says("A few words, one after another.", pace={"delay_ms": 5})])
    async with service.chat(await service.new_session()) as chat:
        await chat.say("talk")
        message = (await chat.event("assistant_message")).assistant_message
        await chat.finished()
    deltas = chat.all("message_delta")
    assert "".join(delta.text for delta in deltas) == message.parts[0].text == "A few words, one after another."
    assert {delta.message_id for delta in deltas} == {message.message_id}
    assert [delta.index for delta in deltas] == [*range(len(deltas))]


async def test_durable_only_leaves_out_deltas(service: Service, model: MockServer) -> None:
    model.use([says("A few words.")])
    async with service.chat(await service.new_session(), durable_only=True) as chat:
        await chat.say("talk")
        await chat.finished()
    assert not chat.all("message_delta")


async def test_the_newest_executor_wins(service: Service, model: MockServer) -> None:
    model.use([calls(("read_file", {"path": "a"}), ("read_file", {"path": "b"})), says("Read.")])
    session_id = await service.new_session()
    async with service.chat(session_id, client_id="old") as old:
        await old.say("read")
        a, b = await old.calls(2)
        await old.submit(tool_call_started=v1.ToolCallStarted(call_id=a.call_id))
        async with service.chat(session_id, client_id="new") as new:
            await new.caught_up()
            error = await old.end()
            changed = (await new.event("executor_changed", 1)).executor_changed
            theirs = await new.submit(tool_call_started=v1.ToolCallStarted(call_id=a.call_id))
            assert theirs.error.reason == "TOOL_CALL_ALREADY_STARTED"
            await new.submit(tool_call_started=v1.ToolCallStarted(call_id=b.call_id))
            await new.result(b.call_id)
            frame = v1.ChatRequest(
                frame_id="late", tool_result=v1.ToolResult(call_id=a.call_id, status=v1.ToolResult.STATUS_SUCCEEDED)
            )
            request = v1.SubmitFrameRequest(session_id=session_id, client_id="old", frame=frame)
            assert (await service.chat_service.SubmitFrame(request)).frame_ack.outcome == v1.FrameAck.OUTCOME_ACCEPTED
            await new.finished()
    assert error is not None
    assert (error.code(), reason_of(error)[0]) == (grpc.StatusCode.ABORTED, "ATTACHMENT_SUPERSEDED")
    assert (changed.client_id, changed.epoch) == ("new", 2)


async def test_a_client_that_attaches_again_ends_its_own_older_stream(service: Service) -> None:
    session_id = await service.new_session()
    async with service.chat(session_id) as old:
        await old.caught_up()
        async with service.chat(session_id) as new:
            error = await old.end()
            await new.caught_up()
    assert error is not None
    assert reason_of(error)[0] == "ATTACHMENT_SUPERSEDED"
    kinds = [event.WhichOneof("payload") for event in await service.log(session_id)]
    assert kinds.count("executor_changed") == 1


async def test_an_observer_talks_and_watches_but_runs_no_tools(service: Service, model: MockServer) -> None:
    model.use([calls(("read_file", {"path": "a"})), says("Read.")])
    session_id = await service.new_session()
    async with service.chat(session_id) as executor, service.chat(session_id, **OBSERVER) as observer:
        assert (await observer.frame("welcome")).role == v1.ATTACH_ROLE_OBSERVER
        await executor.caught_up()
        await observer.say("read")
        (call,) = await executor.calls(1)
        refused = await observer.result(call.call_id)
        await executor.write(v1.ChatRequest(tool_progress=v1.ToolProgress(call_id=call.call_id, text="half")))
        assert (await observer.frame("tool_progress")).text == "half"
        await executor.result(call.call_id)
        await observer.finished()
        await executor.finished()
    assert refused.error.reason == "NOT_EXECUTOR"
    assert executor.events == observer.events
    assert not executor.all("tool_progress")


async def test_half_close_ends_the_stream_when_the_turn_is_over(service: Service, model: MockServer) -> None:
    model.use([says("Bye.")])
    async with service.chat(await service.new_session()) as chat:
        await chat.say("hi")
        await chat.done_writing()
        assert await chat.end() is None
    assert chat.kinds()[-1] == "turn_finished"


async def test_half_close_ends_the_stream_when_the_client_is_to_act(service: Service, model: MockServer) -> None:
    model.use([calls(("read_file", {"path": "a"})), says("Read.")])
    session_id = await service.new_session()
    async with service.chat(session_id) as chat:
        await chat.say("read")
        await chat.done_writing()
        assert await chat.end() is None
    assert chat.kinds()[-1] == "tool_call_dispatched"
    async with service.chat(session_id, after_seq=chat.events[-1].seq) as again:
        await again.result(chat.events[-1].tool_call_dispatched.tool_call.call_id)
        await again.finished()


async def test_half_close_waits_for_an_approval(service: Service, model: MockServer) -> None:
    model.use([calls(("write_file", {"path": "a", "content": ""})), says("Written.")])
    session_id = await service.new_session()
    async with service.chat(session_id) as chat, service.review() as reviewer:
        await chat.say("write")
        await chat.done_writing()
        approval = await reviewer.approval(session_id)
        request = v1.DecideApprovalRequest(
            request_id=f"no-{session_id}",
            decision=v1.ApprovalDecision(approval_id=approval.approval_id, verdict=v1.APPROVAL_VERDICT_REJECT),
        )
        await service.hitl_service.DecideApproval(request)
        assert await chat.end() is None
    assert chat.kinds()[-1] == "turn_finished"


async def test_silence_is_filled_with_heartbeats_and_a_ping_is_answered(service: Service) -> None:
    async with service.chat(await service.new_session()) as chat, service.review() as reviewer:
        welcome = await chat.frame("welcome")
        assert welcome.limits.heartbeat_interval.seconds == 1
        beat = await chat.frame("heartbeat")
        assert (beat.head_seq, beat.ping_nonce) == (welcome.head_seq, 0)
        await chat.write(v1.ChatRequest(ping=v1.Ping(nonce=77)))
        await chat.until(lambda: any(one.ping_nonce == 77 for one in chat.all("heartbeat")) or None, "the nonce")
        await reviewer.write(v1.HitlRequest(ping=v1.Ping(nonce=78)))
        await reviewer.until(
            lambda: any(one.ping_nonce == 78 for one in reviewer.all("heartbeat")) or None, "the nonce"
        )


async def test_a_position_ahead_of_the_log_is_refused(service: Service) -> None:
    async with service.chat(await service.new_session(), after_seq=99) as chat:
        error = await chat.end()
    assert error is not None
    assert error.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert reason_of(error) == ("SEQ_AHEAD_OF_LOG", {"oldestSeq": "1", "headSeq": "1"})


async def test_a_position_in_the_compacted_past_is_refused(
    service: Service, model: MockServer, database: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    model.use([says("Yes.")])
    request = v1.ForkSessionRequest(session_id=await service.new_session())
    session = (await service.sessions.ForkSession(request)).session  # which nobody has in memory, as a new one is
    session_id = session.session_id
    await database.execute("UPDATE sessions SET oldest_seq = 2 WHERE session_id = $1", session_id)
    async with service.chat(session_id) as chat:
        error = await chat.end()
    assert error is not None
    assert error.code() == grpc.StatusCode.OUT_OF_RANGE
    assert reason_of(error) == ("SEQ_COMPACTED", {"oldestSeq": "2", "headSeq": str(session.head_seq)})
    async with service.chat(session_id, after_seq=1) as chat:
        welcome = await chat.frame("welcome")
        await chat.say("still there?")
        await chat.finished()
    assert welcome.oldest_seq == 2


async def test_events_wait_for_acknowledgements_where_the_client_asks_for_it(
    service: Service, model: MockServer
) -> None:
    model.use([says("Yes.")])
    session_id = await service.new_session()
    async with service.chat(session_id) as chat:
        await chat.say("hi")
        await chat.finished()
        last = chat.events[-1].seq
    async with service.chat(session_id, **OBSERVER, max_unacked_events=2) as slow:
        await slow.event("executor_changed")
        await slow.frame("heartbeat")
        assert len(slow.events) == 2
        for seq in range(2, last + 1):
            await slow.until(lambda seq=seq: len(slow.events) >= seq or None, f"event {seq}")  # type: ignore[misc]
            await slow.write(v1.ChatRequest(ack=v1.EventAck(seq=seq)))
        await slow.caught_up()
    assert [event.seq for event in slow.events] == [*range(1, last + 1)]


async def test_the_tool_list_is_logged_when_it_changes(service: Service) -> None:
    session_id = await service.new_session()
    async with service.chat(session_id) as chat:
        updated = await chat.submit(update_tools=v1.UpdateTools(tools=tools("read_file")))
    async with service.chat(session_id, tools=tools("read_file")) as chat:
        await chat.caught_up()
    changes = [event for event in chat.events if event.HasField("tools_updated")]
    assert [[tool.name for tool in event.tools_updated.tools] for event in changes] == [
        [*STANDARD_TOOLS],
        ["read_file"],
    ]
    assert changes[1].seq == updated.seq
