"""Turns that call tools: what they cost beside the same turns without."""

import asyncio
from collections.abc import Sequence
from typing import Any, Final

import asyncpg
import grpc.aio

from agent_runtime import v1
from agent_runtime.v1 import chat_service_pb2_grpc, session_service_pb2_grpc
from benchkit.cells import System
from benchkit.processes import Meter
from benchkit.systems import Stand
from benchkit.turns import Channels

_STREAMS: Final = 32
_TURNS: Final = 20  # of each, so that prompts stay short
_READ_FILE: Final = v1.ToolSpec(name="read_file", input_schema_json='{"type": "object"}')


class _Player:
    """A client that runs the tools it is asked to run, with nothing to it."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._sessions: Any = session_service_pb2_grpc.SessionServiceStub(channel)
        self._chat: Any = chat_service_pb2_grpc.ChatServiceStub(channel)
        self._call: Any = None
        self._frames = 0

    async def open(self) -> None:
        answer = await self._sessions.CreateSession(v1.CreateSessionRequest(agent_id="coder"))
        self._call = self._chat.Chat()
        hello = v1.ChatHello(session_id=answer.session.session_id, client_id="bench", protocol_version=1)
        hello.tools.append(_READ_FILE)
        await self._call.write(v1.ChatRequest(hello=hello))
        while (await self._call.read()).WhichOneof("frame") != "caught_up":
            pass

    async def play(self, text: str) -> None:
        await self._say(user_message=v1.UserMessage(parts=[v1.Part(text=text)]))
        while True:
            event = (await self._call.read()).event
            if event.HasField("tool_call_dispatched"):
                call_id = event.tool_call_dispatched.tool_call.call_id
                await self._say(tool_call_started=v1.ToolCallStarted(call_id=call_id))
                result = v1.ToolResult(call_id=call_id, status=v1.ToolResult.STATUS_SUCCEEDED)
                result.content.add(text="what stands in the file")
                await self._say(tool_result=result)
            elif event.HasField("turn_finished"):
                assert event.turn_finished.state == v1.TURN_STATE_COMPLETED, event.turn_finished
                return

    async def _say(self, **frame: Any) -> None:
        self._frames += 1
        await self._call.write(v1.ChatRequest(frame_id=f"frame-{self._frames}", **frame))


async def turn_costs(here: Stand, system: System, postgres: Sequence[int], calls: int) -> dict[str, float]:
    """Play turns with so many calls, whose answers come at once; returns what one costs."""
    channels = Channels(system.target)
    players = [_Player(channels.one()) for _ in range(_STREAMS)]
    await asyncio.gather(*(player.open() for player in players))
    text = f"delay=0 tokens=64 calls={calls}"
    await asyncio.gather(*(player.play(text) for player in players))  # once, to be warm
    log = await _log_bytes(here)
    server, database = Meter(system.pids), Meter(postgres)

    async def go_on(player: _Player) -> None:
        for _ in range(_TURNS):
            await player.play(text)

    await asyncio.gather(*(go_on(player) for player in players))
    turns = _STREAMS * _TURNS
    found = {
        "server ms": server.seconds * 1000 / turns,
        "postgres ms": database.seconds * 1000 / turns,
        "log KB": (await _log_bytes(here) - log) / 1000 / turns,
    }
    await channels.close()
    return found


async def _log_bytes(here: Stand) -> int:
    """Return how much Postgres has written to its log so far."""
    connection = await asyncpg.connect(here.stores.database_url)
    try:
        return int(await connection.fetchval("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')"))
    finally:
        await connection.close()
