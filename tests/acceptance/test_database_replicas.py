"""A server with a read replica of its database: who has written reads it, and lists do not burden the primary."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import grpc
import pytest

from agent_runtime import v1
from agent_runtime_client import Client
from agent_runtime_server.mockllm.server import MockServer
from enginekit.postgres import Cluster
from enginekit.standby import Standby
from servicekit.process import serving
from servicekit.service import Service, reason_of

LSN = "x-agent-runtime-lsn"


@pytest.fixture(scope="module")
async def primary(cluster: Cluster) -> AsyncIterator[str]:
    async with cluster.database() as url:
        yield url


@pytest.fixture(scope="module")
async def target(one_model: MockServer, primary: str, replica_server: Standby) -> AsyncIterator[str]:
    await replica_server.until_it_has(primary)
    settings = {
        "AGENT_RUNTIME_DATABASE_URL": primary,
        "AGENT_RUNTIME_DATABASE_REPLICA_URLS": f"{replica_server.url_of(primary)}, ",
        "AGENT_RUNTIME_LLM_BASE_URL": one_model.base_url,
        "AGENT_RUNTIME_DATABASE_REPLICA_LAG_SECONDS": "4",
    }
    async with serving(settings) as server:
        yield server.target


@pytest.fixture
async def service(target: str) -> AsyncIterator[Service]:
    service = Service(target)
    async with service.channel:
        yield service


async def told(call: Any) -> str:
    """Return the position that the answer to a unary call tells."""
    await call
    return str(dict(await call.trailing_metadata()).get(LSN, ""))


async def titles(service: Service, *metadata: tuple[str, str]) -> set[str]:
    answer = await service.sessions.ListSessions(v1.ListSessionsRequest(), metadata=metadata)
    return {session.title for session in answer.sessions}


async def test_a_client_reads_what_it_wrote_however_late_the_replica_is(
    target: str, primary: str, replica_server: Standby
) -> None:
    async with Client(target) as client:
        await replica_server.pause(primary)
        try:
            session = await client.create_session(title="mine")
            assert session.session_id in [one.session_id async for one in client.list_sessions()]
            async with client.chat(session.session_id) as chat:
                await chat.send("hello")
            events = [event.WhichOneof("payload") async for event in client.events(session.session_id)]
            assert "user_message" in events
        finally:
            await replica_server.resume(primary)


async def test_what_changes_something_tells_the_position_behind_it(service: Service) -> None:
    creating = service.sessions.CreateSession(v1.CreateSessionRequest(agent_id="coder"))
    session_id = (await creating).session.session_id
    positions = [await told(creating)]
    named = v1.UpdateSessionRequest(session=v1.Session(session_id=session_id, title="named"))
    named.update_mask.paths.append("title")
    positions.append(await told(service.sessions.UpdateSession(named)))
    message = v1.UserMessage(parts=[v1.Part(text="hello")])
    async with service.chat(session_id) as chat:
        positions.append((await chat.submit(user_message=message)).lsn)
        await chat.event("turn_finished")
    frame = v1.ChatRequest(frame_id="f-unary", user_message=message)
    submit = v1.SubmitFrameRequest(session_id=session_id, client_id="client-1", frame=frame)
    positions.append((await service.chat_service.SubmitFrame(submit)).frame_ack.lsn)
    positions.append(await told(service.sessions.ForkSession(v1.ForkSessionRequest(session_id=session_id))))
    positions.append(await told(service.sessions.CloseSession(v1.CloseSessionRequest(session_id=session_id))))
    assert all(re.fullmatch(r"[0-9A-F]+/[0-9A-F]+", position) for position in positions), positions
    values = [[int(half, 16) for half in position.split("/")] for position in positions]
    assert values == sorted(values)
    assert await told(service.sessions.GetSession(v1.GetSessionRequest(session_id=session_id))) == ""


async def test_lists_are_read_on_the_replica(service: Service, primary: str, replica_server: Standby) -> None:
    creating = service.sessions.CreateSession(v1.CreateSessionRequest(title="listed"))
    position = (LSN, await told(creating))
    connection = await asyncpg.connect(replica_server.url_of(primary))
    asked = """SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
               AND application_name = 'agent-runtime' AND query LIKE '%FROM sessions%LIMIT%'"""
    async with asyncio.timeout(60):
        while not await connection.fetchval(asked):
            assert "listed" in await titles(service, position)
    await connection.close()


async def test_what_is_no_position_is_refused(service: Service) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match="send back what an answer said") as refused:
        await titles(service, (LSN, "latest"))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason_of(refused.value)[0] == "VALIDATION_FAILED"


async def test_the_status_shows_replicas_and_health_does_not(service: Service, replica_server: Standby) -> None:
    status = await service.system.GetServerStatus(v1.GetServerStatusRequest())
    found = {one.name: one for one in status.dependencies}
    replica = found[f"postgres-replica.{replica_server.place.sockets}"]
    assert (replica.state, replica.required) == (v1.DEPENDENCY_STATE_UP, False)
    assert replica.HasField("check_time")
    assert {name for name in found if "replica" not in name} == {"postgres", "redis", "llm", "background"}
