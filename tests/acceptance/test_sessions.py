"""Sessions, their history and their feeds, without a chat stream."""

import asyncio
import uuid
from typing import Any

import grpc
import pytest

from agent_runtime import v1
from agent_runtime_server.mockllm.server import MockServer
from servicekit.model import calls, says
from servicekit.service import Service, reason_of


def _message(frame_id: str, text: str) -> v1.ChatRequest:
    return v1.ChatRequest(frame_id=frame_id, user_message=v1.UserMessage(parts=[v1.Part(text=text)]))


async def _until_finished(service: Service, session_id: str) -> list[Any]:
    """Follow a session until its turn has ended and return the frames."""
    frames = []
    async with asyncio.timeout(30):
        call = service.events.SubscribeEvents(v1.SubscribeEventsRequest(session_id=session_id, include_deltas=True))
        async for frame in call:
            frames.append(frame)
            if frame.event.HasField("turn_finished"):
                break
        call.cancel()
    return frames


async def test_frames_can_be_submitted_without_a_stream(service: Service, model: MockServer) -> None:
    model.use([says("Hello there.")])
    session_id = await service.new_session()
    request = v1.SubmitFrameRequest(session_id=session_id, client_id="script", frame=_message("m1", "hi"))
    first = (await service.chat_service.SubmitFrame(request)).frame_ack
    frames = await _until_finished(service, session_id)
    again = (await service.chat_service.SubmitFrame(request)).frame_ack
    assert (first.outcome, again.outcome) == (v1.FrameAck.OUTCOME_ACCEPTED, v1.FrameAck.OUTCOME_DUPLICATE)
    assert first.seq == again.seq
    assert "".join(frame.message_delta.text for frame in frames) in ("", "Hello there.")
    request.frame.CopyFrom(_message("m1", "ho"))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await service.chat_service.SubmitFrame(request)
    assert reason_of(refused.value)[0] == "IDEMPOTENCY_KEY_REUSED"


async def test_chat_feed_and_history_give_the_same_bytes(service: Service, model: MockServer) -> None:
    model.use([calls(("read_file", {"path": "a"})), says("Read.")])
    session_id = await service.new_session()
    async with service.chat(session_id) as chat:
        await chat.say("read")
        (call,) = await chat.calls(1)
        await chat.result(call.call_id)
        await chat.finished()
    fed = [frame.event for frame in await _until_finished(service, session_id) if frame.HasField("event")]
    listed = await service.log(session_id)
    streamed = [event.SerializeToString() for event in chat.events]
    assert streamed == [event.SerializeToString() for event in fed]
    assert streamed == [event.SerializeToString() for event in listed]


async def test_a_feed_of_one_session_resumes_behind_a_seq(service: Service, model: MockServer) -> None:
    model.use([says("Yes.")])
    session_id = await service.new_session()
    async with service.chat(session_id) as chat:
        await chat.say("hi")
        await chat.finished()
    last = chat.events[-1].seq
    request = v1.SubscribeEventsRequest(session_id=session_id, after_seq=last - 2)
    call = service.events.SubscribeEvents(request)
    frames = [await call.read() for _ in range(3)]
    call.cancel()
    assert [frame.event.seq for frame in frames[:2]] == [last - 1, last]
    assert frames[2].caught_up.head_seq == last


async def test_history_comes_in_pages(service: Service, model: MockServer) -> None:
    model.use([says("Yes.")])
    session_id = await service.new_session()
    async with service.chat(session_id) as chat:
        await chat.say("hi")
        await chat.finished()
    seen, after = list[int](), 0
    while True:
        request = v1.ListSessionEventsRequest(session_id=session_id, after_seq=after, page_size=3)
        page = await service.sessions.ListSessionEvents(request)
        seen += [event.seq for event in page.events]
        after = page.last_seq
        if page.last_seq == page.head_seq:
            break
        assert len(page.events) == 3
    assert seen == [event.seq for event in chat.events]


async def test_a_feed_of_all_sessions_resumes_with_its_token(service: Service, model: MockServer) -> None:
    model.use([says("Yes."), says("No.")])
    wanted = ["user_message", "turn_finished"]
    call = service.events.SubscribeEvents(v1.SubscribeEventsRequest(event_types=wanted))
    first = await call.read()
    assert first.HasField("caught_up")
    call.cancel()
    sessions = [await service.new_session(), await service.new_session()]
    for number, session_id in enumerate(sessions):
        request = v1.SubmitFrameRequest(session_id=session_id, client_id="script", frame=_message(f"m{number}", "hi"))
        await service.chat_service.SubmitFrame(request)
    fed: dict[str, list[str]] = {session_id: [] for session_id in sessions}
    token = first.resume_token
    async with asyncio.timeout(30):
        while not all(kinds[-1:] == ["turn_finished"] for kinds in fed.values()):
            # A new stream for each event: none may be lost or doubled between them.
            call = service.events.SubscribeEvents(v1.SubscribeEventsRequest(resume_token=token, event_types=wanted))
            while not (frame := await call.read()).HasField("event"):
                pass
            token = frame.resume_token
            if frame.event.session_id in fed:
                fed[frame.event.session_id].append(frame.event.WhichOneof("payload"))
            call.cancel()
    assert fed == dict.fromkeys(sessions, wanted)


async def test_a_feed_needs_events_that_exist(service: Service) -> None:
    call = service.events.SubscribeEvents(v1.SubscribeEventsRequest(event_types=["turn_finished", "lunch"]))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call.read()
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "event_types[1]" in str(refused.value.details())


async def test_creating_is_idempotent(service: Service) -> None:
    request = v1.CreateSessionRequest(request_id=str(uuid.uuid4()), agent_id="ask", title="Tea")
    first = await service.sessions.CreateSession(request)
    again = await service.sessions.CreateSession(request)
    named = v1.CreateSessionRequest(session_id=f"mine-{uuid.uuid4().hex[:8]}")
    own = await service.sessions.CreateSession(named)
    assert (first.created, again.created, own.created) == (True, False, True)
    assert first.session == again.session
    assert (first.session.agent_id, first.session.title) == ("ask", "Tea")
    assert (own.session.session_id, own.session.agent_id) == (named.session_id, "orchestrator")


async def test_titles_and_labels_change_and_select(service: Service) -> None:
    mark = uuid.uuid4().hex
    session_id = await service.new_session()
    change = v1.Session(session_id=session_id, title="New", labels={"mark": mark})
    request = v1.UpdateSessionRequest(session=change)
    request.update_mask.paths.extend(["title", "labels"])
    updated = (await service.sessions.UpdateSession(request)).session
    found = (await service.sessions.ListSessions(v1.ListSessionsRequest(labels={"mark": mark}))).sessions
    assert (updated.title, dict(updated.labels)) == ("New", {"mark": mark})
    assert [session.session_id for session in found] == [session_id]
    request.update_mask.paths[:] = ["owner"]
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await service.sessions.UpdateSession(request)
    assert reason_of(refused.value)[0] == "VALIDATION_FAILED"


async def test_an_outdated_etag_is_refused(service: Service) -> None:
    session_id = await service.new_session()
    read = (await service.sessions.GetSession(v1.GetSessionRequest(session_id=session_id))).session
    request = v1.UpdateSessionRequest(session=v1.Session(session_id=session_id, title="A", etag=read.etag))
    request.update_mask.paths.append("title")
    await service.sessions.UpdateSession(request)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await service.sessions.UpdateSession(request)
    assert "etag" in str(refused.value.details())


async def test_closing_ends_the_turn_the_queue_and_the_log(service: Service, model: MockServer) -> None:
    model.use([calls(("write_file", {"path": "a", "content": ""}), ("read_file", {"path": "b"}))])
    session_id = await service.new_session()
    async with service.chat(session_id) as chat:
        await chat.say("write")
        await chat.calls(1)
        queued = await chat.say("and then")
        close = v1.CloseSessionRequest(session_id=session_id, reason="done with it")
        closed = (await service.sessions.CloseSession(close)).session
        again = (await service.sessions.CloseSession(close)).session
        await chat.event("session_closed")
        refused = await chat.say("hello?")
        approvals = v1.ListApprovalsRequest(filter=v1.ApprovalFilter(session_ids=[session_id]))
        assert not (await service.hitl_service.ListApprovals(approvals)).approvals
    assert closed.state == again.state == v1.SESSION_STATE_CLOSED
    assert closed.head_seq == again.head_seq
    ends = [event for event in chat.events if event.HasField("turn_finished")]
    assert {end.turn_finished.state for end in ends} == {v1.TURN_STATE_CANCELLED}
    assert len(ends) == 2
    assert chat.events[queued.seq - 1].turn_id in {end.turn_id for end in ends}
    assert chat.kinds()[-1] == "session_closed"
    assert refused.error.reason == "SESSION_CLOSED"


async def test_a_closed_session_can_still_be_read(service: Service) -> None:
    session_id = await service.new_session()
    await service.sessions.CloseSession(v1.CloseSessionRequest(session_id=session_id))
    async with service.chat(session_id) as chat:
        await chat.caught_up()
    assert chat.kinds() == ["session_created", "session_closed"]


async def test_unknown_sessions_are_not_found(service: Service) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await service.sessions.GetSession(v1.GetSessionRequest(session_id="nobody"))
    assert refused.value.code() == grpc.StatusCode.NOT_FOUND
    assert reason_of(refused.value)[0] == "SESSION_NOT_FOUND"


async def test_agents_and_the_server_introduce_themselves(service: Service) -> None:
    agents = (await service.agents.ListAgents(v1.ListAgentsRequest())).agents
    status = await service.system.GetServerStatus(v1.GetServerStatusRequest())
    assert {agent.agent_id for agent in agents} == {"orchestrator", "coder", "architect", "debug", "ask"}
    assert {one.name for one in status.dependencies} == {"postgres", "redis", "llm", "background"}
    assert all(one.state == v1.DEPENDENCY_STATE_UP for one in status.dependencies)
    assert not status.draining
