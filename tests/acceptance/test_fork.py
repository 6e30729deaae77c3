"""A session can be gone on with from an earlier moment, beside the one that went on."""

import asyncio
import sys

import pytest

from agent_runtime import v1
from agent_runtime_client import CallFailed, Client, Event
from agent_runtime_server.mockllm.server import MockServer
from servicekit.process import ServerProcess


async def finished_turn(client: Client, session_id: str, text: str) -> None:
    async with client.chat(session_id) as chat:
        ack = await chat.send(text, agent_id="ask")
        async for update in chat:
            if isinstance(update, Event) and update.event.seq > ack.seq and update.event.HasField("turn_finished"):
                return


async def log(client: Client, session_id: str) -> list[v1.SessionEvent]:
    return [event async for event in client.events(session_id)]


async def test_a_fork_has_the_same_past_and_a_future_of_its_own(server: ServerProcess, model: MockServer) -> None:
    async with Client(server.target) as client:
        session = await client.create_session(title="first")
        await finished_turn(client, session.session_id, "hello")
        before = await log(client, session.session_id)
        at = next(event.seq for event in before if event.HasField("assistant_message"))
        fork = await client.fork_session(session.session_id, at_seq=at)
        copied = await log(client, fork.session_id)
        assert [event.WhichOneof("payload") for event in copied[:at]] == [
            event.WhichOneof("payload") for event in before[:at]
        ]
        assert {event.session_id for event in copied} == {fork.session_id}
        assert copied[at].session_forked == v1.SessionForked(from_session_id=session.session_id, from_seq=at)
        assert copied[at + 1].turn_finished.state == v1.TURN_STATE_CANCELLED, "the turn ran on in the other one"
        await finished_turn(client, fork.session_id, "and now?")
        assert fork.title == "first"
        assert await log(client, session.session_id) == before


async def test_a_fork_beyond_the_log_or_of_nothing_is_refused(server: ServerProcess, model: MockServer) -> None:
    async with Client(server.target) as client:
        session = await client.create_session()
        with pytest.raises(CallFailed, match="ahead of the log"):
            await client.fork_session(session.session_id, at_seq=99)
        with pytest.raises(CallFailed, match="no session"):
            await client.fork_session("never-made")


async def test_the_command_prints_the_id_of_the_fork(server: ServerProcess, model: MockServer) -> None:
    async with Client(server.target) as client:
        session = await client.create_session()
        command = [
            sys.executable,
            "-m",
            "agent_runtime_cli",
            "fork",
            session.session_id,
            "--target",
            server.target,
        ]
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        printed, _ = await process.communicate()
        assert process.returncode == 0
        assert (await client.get_session(printed.decode().strip())).head_seq == 2
