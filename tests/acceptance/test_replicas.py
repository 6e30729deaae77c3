"""Two replicas on the same Postgres and Redis: any call works on either, and either goes on for the other."""

import signal
from collections.abc import AsyncIterator

import pytest

from agent_runtime import v1
from agent_runtime_server.embedded import embedded, scratch_state_dir
from agent_runtime_server.mockllm.server import MockServer
from enginekit.ready_made import begin_with_postgres_data
from servicekit.model import calls, says
from servicekit.process import ServerProcess, serving
from servicekit.service import Service
from servicekit.streams import decision

WORDS = "one two three four five six seven eight nine ten " * 4
SLOWLY = {"delay_ms": 50}


@pytest.fixture(scope="session")
async def replicas(one_model: MockServer) -> AsyncIterator[tuple[ServerProcess, ServerProcess]]:
    with scratch_state_dir() as state_dir:
        begin_with_postgres_data(state_dir)
        async with embedded(state_dir) as stores:
            settings = {
                "AGENT_RUNTIME_DATABASE_URL": stores.database_url,
                "AGENT_RUNTIME_REDIS_URL": stores.redis_url,
                "AGENT_RUNTIME_LLM_BASE_URL": one_model.base_url,
                "AGENT_RUNTIME_DRAIN_SECONDS": "0",
            }
            async with serving(settings) as one, serving(settings) as other:
                yield one, other


def message(text: str, frame_id: str) -> v1.ChatRequest:
    return v1.ChatRequest(frame_id=frame_id, user_message=v1.UserMessage(parts=[v1.Part(text=text)]))


async def test_what_one_replica_does_is_seen_and_steered_on_the_other(
    replicas: tuple[ServerProcess, ServerProcess], model: MockServer
) -> None:
    here, there = (Service(replica.target) for replica in replicas)
    model.use([says(WORDS, pace=SLOWLY)])
    session_id = await here.new_session()
    async with here.chat(session_id) as chat, here.channel, there.channel:
        await chat.frame("caught_up")
        submit = v1.SubmitFrameRequest(session_id=session_id, client_id="script", frame=message("go", "f1"))
        await there.chat_service.SubmitFrame(submit)
        await chat.event("user_message")
        await chat.frame("message_delta", 3)
        async with there.chat(session_id, client_id="watcher", role=v1.ATTACH_ROLE_OBSERVER) as watcher:
            delta = await watcher.frame("message_delta")
            assert delta.replace or delta.index == 0, "who comes later gets the text so far"
        cancel = v1.ChatRequest(frame_id="f2", cancel_turn=v1.CancelTurn())
        await here.chat_service.SubmitFrame(
            v1.SubmitFrameRequest(session_id=session_id, client_id="script", frame=cancel)
        )
        finished = await chat.event("turn_finished")
        assert finished.turn_finished.state == v1.TURN_STATE_CANCELLED


async def test_a_client_that_comes_back_to_a_replica_gets_what_happened_elsewhere_meanwhile(
    replicas: tuple[ServerProcess, ServerProcess],
) -> None:
    here, there = (Service(replica.target) for replica in replicas)
    session_id = await here.new_session()
    async with here.channel, there.channel:
        async with here.chat(session_id) as chat:
            await chat.frame("caught_up")
        async with there.chat(session_id, client_id="client-2") as chat:
            seen = (await chat.frame("welcome")).head_seq
            await chat.frame("caught_up")
        async with here.chat(session_id, after_seq=seen) as chat:
            assert (await chat.frame("welcome")).executor_epoch == 3, "the first epoch is over, whatever is known here"
            assert (await chat.event("executor_changed")).seq == seen + 1
        async with there.chat(session_id, client_id="watcher", role=v1.ATTACH_ROLE_OBSERVER) as watcher:
            assert (await watcher.frame("caught_up")).head_seq == seen + 1


async def test_a_reviewer_on_another_replica_decides(
    replicas: tuple[ServerProcess, ServerProcess], model: MockServer
) -> None:
    here, there = (Service(replica.target) for replica in replicas)
    model.use([calls(("write_file", {"path": "a.txt", "content": "x"})), says("done")])
    session_id = await here.new_session()
    async with here.chat(session_id) as chat, there.review() as reviewer, here.channel, there.channel:
        await chat.write(message("write it", "f1"))
        approval = await reviewer.frame("approval")
        await reviewer.write(v1.HitlRequest(frame_id="h1", decision=decision(approval, v1.APPROVAL_VERDICT_APPROVE)))
        dispatched = await chat.event("tool_call_dispatched")
        result = v1.ToolResult(
            call_id=dispatched.tool_call_dispatched.tool_call.call_id, status=v1.ToolResult.STATUS_SUCCEEDED
        )
        frame = v1.ChatRequest(frame_id="f2", tool_result=result)
        await there.chat_service.SubmitFrame(
            v1.SubmitFrameRequest(session_id=session_id, client_id="client-1", frame=frame)
        )
        finished = await chat.event("turn_finished")
        assert finished.turn_finished.state == v1.TURN_STATE_COMPLETED


async def test_a_stalled_replica_commits_nothing_of_what_was_taken_over_and_its_streams_catch_up(
    replicas: tuple[ServerProcess, ServerProcess], model: MockServer
) -> None:
    here, there = (Service(replica.target) for replica in replicas)
    model.use([says(WORDS, pace=SLOWLY)])
    session_id = await here.new_session()
    observer = {"client_id": "watcher", "role": v1.ATTACH_ROLE_OBSERVER}
    async with (
        here.channel,
        there.channel,
        here.chat(session_id) as chat,
        there.chat(session_id, **observer) as watcher,
    ):
        await watcher.frame("caught_up")
        await chat.say("go")
        await chat.frame("message_delta", 3)
        replicas[0].signal(signal.SIGSTOP)
        try:
            recovered = await watcher.event("turn_recovered")
            assert recovered.turn_recovered.cause == v1.TurnRecovered.CAUSE_OWNER_LOST
            finished = await watcher.event("turn_finished")
        finally:
            replicas[0].signal(signal.SIGCONT)
        assert await chat.event("turn_finished") == finished
        assert finished.turn_finished.state == v1.TURN_STATE_COMPLETED
        assert [event.seq for event in chat.events] == list(range(1, finished.seq + 1))
        assert chat.events == await there.log(session_id)
        assert chat.kinds().count("assistant_message") == 1, "the answer of the one that stalled is void"
        assert (await chat.say("and on")).outcome == v1.FrameAck.OUTCOME_ACCEPTED


async def test_a_killed_replicas_turn_is_finished_by_the_other(
    replicas: tuple[ServerProcess, ServerProcess], model: MockServer
) -> None:
    here, there = (Service(replica.target) for replica in replicas)
    model.use([says(WORDS, pace=SLOWLY)])
    session_id = await here.new_session()
    async with there.chat(session_id, role=v1.ATTACH_ROLE_OBSERVER) as watcher, here.channel, there.channel:
        await watcher.frame("caught_up")
        submit = v1.SubmitFrameRequest(session_id=session_id, client_id="script", frame=message("go", "f1"))
        await here.chat_service.SubmitFrame(submit)
        await watcher.frame("message_delta", 3)
        await replicas[0].kill()
        recovered = await watcher.event("turn_recovered")
        assert recovered.turn_recovered.cause == v1.TurnRecovered.CAUSE_OWNER_LOST
        finished = await watcher.event("turn_finished")
        assert finished.turn_finished.state == v1.TURN_STATE_COMPLETED
        assert [event.seq for event in watcher.all("event")] == list(range(1, finished.seq + 1))
        await replicas[0].start()
