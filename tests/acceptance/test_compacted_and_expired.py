"""Old events go and sessions expire; every reader is told how to go on, and clients and commands do."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from agent_runtime import v1
from agent_runtime_client import CallFailed, Chat, Client, Event, Notice
from agent_runtime_client.updates import Disconnected
from agent_runtime_server.embedded import embedded
from agent_runtime_server.engine.compaction import Compactor
from agent_runtime_server.mockllm.server import MockServer
from agent_runtime_server.stores.upkeep import SessionName
from enginekit.history import lengthen
from enginekit.stores import opened
from servicekit.model import says
from servicekit.process import ServerProcess, serving
from servicekit.service import Service, reason_of

LOCAL = "local"  # the tenant of callers without credentials


@dataclass
class Shortened:
    """A session whose beginning is gone, and a token of before it was."""

    session_id: str
    oldest: int
    head: int
    token: str

    @property
    def metadata(self) -> dict[str, str]:
        return {"oldestSeq": str(self.oldest), "headSeq": str(self.head)}


@pytest.fixture(scope="module")
async def shortened(server: ServerProcess) -> AsyncIterator[Shortened]:
    async with Client(server.target) as client, embedded(server.state_dir) as servers:
        async with aclosing(client.follow()) as feed:  # type: ignore[type-var]
            token = (await anext(feed)).resume_token
        session_id = (await client.create_session()).session_id
        async with opened(servers.database_url) as stores:
            await lengthen(stores, session_id, 60, tenant=LOCAL)
            await Compactor(stores.log, stores.retention, 50).compact(SessionName(LOCAL, session_id))
        session = await client.get_session(session_id)
        assert session.oldest_seq == session.head_seq - 49
        yield Shortened(session_id, session.oldest_seq, session.head_seq, token)


class TestEveryEntrance:
    async def test_history(self, service: Service, shortened: Shortened) -> None:
        request = v1.ListSessionEventsRequest(session_id=shortened.session_id)
        with pytest.raises(grpc.aio.AioRpcError) as told:
            await service.sessions.ListSessionEvents(request)
        assert reason_of(told.value) == ("SEQ_COMPACTED", shortened.metadata)
        request.after_seq = shortened.oldest - 1
        page = await service.sessions.ListSessionEvents(request)
        assert [event.seq for event in page.events] == [*range(shortened.oldest, shortened.head + 1)]

    async def test_chat(self, service: Service, shortened: Shortened) -> None:
        async with service.chat(shortened.session_id, role=v1.ATTACH_ROLE_OBSERVER) as chat:
            error = await chat.end()
        assert error is not None
        assert reason_of(error) == ("SEQ_COMPACTED", shortened.metadata)

    async def test_a_feed_of_the_session(self, service: Service, shortened: Shortened) -> None:
        call = service.events.SubscribeEvents(v1.SubscribeEventsRequest(session_id=shortened.session_id, after_seq=3))
        with pytest.raises(grpc.aio.AioRpcError) as told:
            await call.read()
        assert reason_of(told.value) == ("SEQ_COMPACTED", shortened.metadata)

    async def test_a_feed_of_all_sessions(self, service: Service, shortened: Shortened) -> None:
        call = service.events.SubscribeEvents(v1.SubscribeEventsRequest(resume_token=shortened.token))
        with pytest.raises(grpc.aio.AioRpcError) as told:
            await call.read()
        reason, metadata = reason_of(told.value)
        assert reason == "SEQ_COMPACTED"
        again = service.events.SubscribeEvents(v1.SubscribeEventsRequest(resume_token=metadata["resumeToken"]))
        assert (await again.read()).WhichOneof("frame") in ("event", "caught_up")
        again.cancel()

    async def test_a_fork(self, service: Service, shortened: Shortened) -> None:
        request = v1.ForkSessionRequest(session_id=shortened.session_id, at_seq=shortened.oldest - 2)
        with pytest.raises(grpc.aio.AioRpcError) as told:
            await service.sessions.ForkSession(request)
        assert reason_of(told.value) == ("SEQ_COMPACTED", shortened.metadata)
        request.at_seq = shortened.oldest
        copy = (await service.sessions.ForkSession(request)).session
        assert (copy.oldest_seq, copy.head_seq) == (shortened.oldest, shortened.oldest + 2), "its turn was cancelled"


class TestClientsGoOn:
    async def test_a_chat_tells_what_is_gone_and_reads_the_rest(
        self, server: ServerProcess, shortened: Shortened
    ) -> None:
        seen: list[int] = []
        async with Client(server.target) as client, client.chat(shortened.session_id, after_seq=3) as chat:
            async for update in chat:
                assert not isinstance(update, Disconnected), "nothing is wrong with the connection"
                if isinstance(update, Notice) and not seen and "no longer kept" in update.text:
                    assert update.text == f"events 4 to {shortened.oldest - 1} are no longer kept"
                if isinstance(update, Event):
                    seen.append(update.event.seq)
                if seen and seen[-1] == shortened.head:
                    break
        assert seen == [*range(shortened.oldest, shortened.head + 1)]

    async def test_feeds_read_the_rest(self, server: ServerProcess, shortened: Shortened) -> None:
        async with Client(server.target) as client:
            async for frame in client.follow(shortened.session_id):
                assert frame.event.seq == shortened.oldest
                break
            async for frame in client.follow(resume_token=shortened.token):
                assert frame.WhichOneof("frame") in ("event", "caught_up")
                break

    async def test_commands_show_the_rest(
        self, server: ServerProcess, model: MockServer, shortened: Shortened, tmp_path: Path
    ) -> None:
        model.use([says("Still here.")])
        status, printed, remarks = await run("events", shortened.session_id, "--target", server.target)
        assert (status, len(printed.splitlines())) == (0, 50)
        assert remarks == f"… what came before event {shortened.oldest} is no longer kept\n"
        said = ("--session", shortened.session_id, "--workspace", str(tmp_path), "--agent", "ask", "there?")
        status, printed, _ = await run("chat", "--target", server.target, *said)
        assert (status, printed) == (0, "Still here.\n")


async def run(*command: str) -> tuple[int | None, str, str]:
    """Run a command of the client; return its status and what it printed and remarked."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "agent_runtime_cli", *command), stdout=pipe, stderr=pipe
    )
    printed, remarks = await process.communicate()
    return process.returncode, printed.decode(), remarks.decode()


async def test_an_expired_session_ends_for_everybody(one_model: MockServer) -> None:
    one_model.use([says("one two three four " * 500, pace={"delay_ms": 1000})])
    settings = {"AGENT_RUNTIME_LLM_BASE_URL": one_model.base_url, "AGENT_RUNTIME_SESSION_GRACE_SECONDS": "0"}
    async with serving(settings) as server, Client(server.target) as client:
        service = Service(server.target)
        session_id = (await client.create_session(agent_id="ask")).session_id
        async with asyncio.timeout(60), client.chat(session_id) as chat, service.channel:
            await chat.send("go on for ever")
            moment = Timestamp()
            moment.GetCurrentTime()
            expiring = v1.Session(session_id=session_id, expire_time=moment)
            mask = FieldMask(paths=["expire_time"])
            await service.sessions.UpdateSession(v1.UpdateSessionRequest(session=expiring, update_mask=mask))
            kinds: list[str | None] = []
            with pytest.raises(CallFailed, match="SESSION_NOT_FOUND"):
                await _follow(chat, kinds)
            assert kinds[-2:] == ["turn_finished", "session_closed"]
        with pytest.raises(CallFailed, match="SESSION_NOT_FOUND"):
            await client.get_session(session_id)
        assert session_id not in {one.session_id async for one in client.list_sessions()}


async def _follow(chat: Chat, kinds: list[str | None]) -> None:
    """Note what happens in a session until it ends."""
    async for update in chat:
        if isinstance(update, Event):
            kinds += [update.event.WhichOneof("payload")]
