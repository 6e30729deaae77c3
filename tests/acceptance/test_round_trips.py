"""How often Postgres is asked, counted in its own log: each statement is a round trip that somebody waits for."""

from collections.abc import AsyncIterator

import pytest

from agent_runtime import v1
from agent_runtime_server.embedded import embedded, scratch_state_dir
from agent_runtime_server.mockllm.server import MockServer
from enginekit.ready_made import begin_with_postgres_data
from servicekit.model import calls, says
from servicekit.process import serving
from servicekit.service import Service
from servicekit.statements import StatementLog, log_statements


@pytest.fixture(scope="module")
async def watched(one_model: MockServer) -> AsyncIterator[tuple[Service, StatementLog]]:
    """A server whose Postgres logs every statement."""
    with scratch_state_dir() as state_dir:
        begin_with_postgres_data(state_dir)
        async with embedded(state_dir) as stores:
            settings = {
                "AGENT_RUNTIME_DATABASE_URL": stores.database_url,
                "AGENT_RUNTIME_REDIS_URL": stores.redis_url,
                "AGENT_RUNTIME_LLM_BASE_URL": one_model.base_url,
                "AGENT_RUNTIME_DRAIN_SECONDS": "0",
                "AGENT_RUNTIME_HEARTBEAT_SECONDS": "15",
            }
            async with serving(settings) as server:
                await log_statements(stores.database_url)
                service = Service(server.target)
                async with service.channel:
                    yield service, StatementLog(state_dir / "postgres" / "log")


def message(text: str) -> v1.UserMessage:
    return v1.UserMessage(parts=[v1.Part(text=text)])


async def test_a_session_with_its_context_is_loaded_in_one_round_trip(
    watched: tuple[Service, StatementLog], model: MockServer
) -> None:
    service, log = watched
    fork = await service.sessions.ForkSession(v1.ForkSessionRequest(session_id=await service.new_session()))
    session_id = fork.session.session_id
    with log.about(session_id) as attaching:
        async with service.chat(session_id) as chat:
            await chat.frame("caught_up")
    # The session and its log together; the attachment, which is an event; and the row for the welcome, which shows
    # what lies beside the log. The replay comes from what was just loaded.
    assert attaching.names == ["load", "commit", "row"]


async def test_a_session_that_was_made_here_is_not_loaded(
    watched: tuple[Service, StatementLog], model: MockServer
) -> None:
    service, log = watched
    with log.about("made-here") as making:
        await service.sessions.CreateSession(v1.CreateSessionRequest(session_id="made-here", agent_id="coder"))
        async with service.chat("made-here") as chat:
            assert (await chat.frame("welcome")).session.etag
            await chat.frame("caught_up")
    assert making.names == ["create", "commit", "row"]


async def test_a_plain_turn_is_two_round_trips(watched: tuple[Service, StatementLog], model: MockServer) -> None:
    service, log = watched
    model.use([says("done")])
    session_id = await service.new_session()
    async with service.chat(session_id) as chat:
        await chat.frame("caught_up")
        with log.about(session_id) as turn:
            await chat.submit(user_message=message("go"))
            await chat.event("turn_finished")
    # What the user said, with the lease of the step; what the model said, with the end of the turn and of the lease.
    assert turn.names == ["commit", "commit"]


async def test_a_tool_costs_two_round_trips_more(watched: tuple[Service, StatementLog], model: MockServer) -> None:
    service, log = watched
    model.use([calls(("read_file", {"path": "a.txt"})), says("done")])
    session_id = await service.new_session()
    async with service.chat(session_id) as chat:
        await chat.frame("caught_up")
        with log.about(session_id) as turn:
            await chat.submit(user_message=message("go"))
            call = (await chat.event("tool_call_dispatched")).tool_call_dispatched.tool_call
            result = v1.ToolResult(call_id=call.call_id, status=v1.ToolResult.STATUS_SUCCEEDED)
            await chat.submit(tool_result=result)
            await chat.event("turn_finished")
    # The message; the proposal with its dispatch; the result with the lease of the next step; the answer.
    assert turn.names == ["commit", "commit", "commit", "commit"]


async def test_coming_back_asks_for_what_is_new_and_for_the_row(
    watched: tuple[Service, StatementLog], model: MockServer
) -> None:
    service, log = watched
    session_id = await service.new_session()
    async with service.chat(session_id) as chat:
        head = (await chat.frame("caught_up")).head_seq
    with log.about(session_id) as coming_back:
        async with service.chat(session_id, after_seq=head) as chat:
            await chat.frame("caught_up")
    # What others have committed since, for this replica may not have heard of it; and the row for the welcome.
    assert coming_back.names == ["events", "row"]


async def test_unary_calls_are_one_round_trip_a_question(
    watched: tuple[Service, StatementLog], model: MockServer
) -> None:
    service, log = watched
    session_id = await service.new_session()
    with log.about(session_id) as reading:
        await service.sessions.GetSession(v1.GetSessionRequest(session_id=session_id))
    assert reading.names == ["row"]
    with log.about(session_id) as paging:
        await service.log(session_id)
    assert paging.names == ["row", "events"], "the row tells whose it is and where its log begins and ends"
