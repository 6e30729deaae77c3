"""A client of many streams that do next to nothing, but ping as the contract asks, and take turns when they are told.

It reads a Crowd as JSON, opens its streams and says `ready`. Each further line is a Bout as JSON: it plays it, writes
what it saw to a file, and says `done`. It ends when it reads no more.
"""

import asyncio
import json
import random
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc.aio
import uvloop

from agent_runtime import v1
from agent_runtime.v1 import chat_service_pb2_grpc, session_service_pb2_grpc
from benchkit.turns import Channels

_OPENING: Final = 32
_PING_SECONDS: Final = 30
_TURN_SECONDS: Final = 60  # after which a turn has failed


@dataclass(frozen=True, slots=True)
class Crowd:
    """So many streams."""

    target: str
    streams: int
    seed: int


@dataclass(frozen=True, slots=True)
class Bout:
    """Turns for a while: so many at any time, each on another stream, and so often so many more at once."""

    out: str  # the file that is written
    begin: float  # by the monotonic clock
    seconds: float
    text: str
    active: int
    bursts: int = 0
    burst: int = 0


@dataclass(slots=True)
class Played:
    """What became of the turns; times in seconds."""

    active: list[float] = field(default_factory=list)
    burst: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


class _Stream:
    """One of them."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._sessions: Any = session_service_pb2_grpc.SessionServiceStub(channel)
        self._chat: Any = chat_service_pb2_grpc.ChatServiceStub(channel)
        self._call: Any = None
        self._writing = asyncio.Lock()  # gRPC takes one message at a time
        self._turns = 0
        self._ended: asyncio.Future[v1.TurnState.ValueType] | None = None

    async def open(self) -> None:
        answer = await self._sessions.CreateSession(v1.CreateSessionRequest(agent_id="coder"))
        self._call = self._chat.Chat()
        hello = v1.ChatHello(session_id=answer.session.session_id, client_id="bench", protocol_version=1)
        await self._call.write(v1.ChatRequest(hello=hello))
        while (await self._call.read()).WhichOneof("frame") != "caught_up":
            pass

    async def read(self) -> None:
        """Read until the stream ends, which it must not."""
        while (frame := await self._call.read()) is not grpc.aio.EOF:
            if frame.HasField("event") and frame.event.HasField("turn_finished") and self._ended is not None:
                self._ended.set_result(frame.event.turn_finished.state)
        raise RuntimeError(f"a stream ended: {await self._call.code()} {await self._call.details()}")

    async def ping(self, first: float) -> None:
        await asyncio.sleep(first * _PING_SECONDS)
        while True:
            await self._write(v1.ChatRequest(ping=v1.Ping(nonce=1)))
            await asyncio.sleep(_PING_SECONDS)

    async def _write(self, request: v1.ChatRequest) -> None:
        async with self._writing:
            await self._call.write(request)

    async def turn(self, text: str) -> float:
        """Take a turn and return how long it took."""
        self._turns += 1
        self._ended = asyncio.get_running_loop().create_future()
        message = v1.UserMessage(parts=[v1.Part(text=text)])
        began = time.monotonic()
        await self._write(v1.ChatRequest(frame_id=f"turn-{self._turns}", user_message=message))
        async with asyncio.timeout(_TURN_SECONDS):
            state = await self._ended
        self._ended = None
        if state != v1.TURN_STATE_COMPLETED:
            raise RuntimeError(f"a turn ended as {v1.TurnState.Name(state)}")
        return time.monotonic() - began


class _Idlers:
    """The streams that are in no turn."""

    def __init__(self, streams: list[_Stream], chance: random.Random) -> None:
        self._streams = chance.sample(streams, len(streams))
        self._chance = chance

    async def turn(self, text: str, took: list[float], errors: list[str]) -> None:
        """Let one of them take a turn."""
        stream = self._streams.pop(self._chance.randrange(len(self._streams)))
        try:
            took.append(await stream.turn(text))
        except Exception as error:  # noqa: BLE001 - counted and told
            errors.append(f"{type(error).__name__}: {error}"[:500])
        else:
            self._streams.append(stream)


async def _play(bout: Bout, idlers: _Idlers, chance: random.Random) -> Played:
    played = Played()

    async def go_on() -> None:
        await asyncio.sleep(chance.random() * bout.seconds / 10)
        while time.monotonic() < bout.begin + bout.seconds:
            await idlers.turn(bout.text, played.active, played.errors)

    await asyncio.sleep(bout.begin - time.monotonic())
    async with asyncio.TaskGroup() as tasks:
        for _ in range(bout.active):
            tasks.create_task(go_on())
        for number in range(bout.bursts):
            await asyncio.sleep(bout.begin + (number + 0.5) * bout.seconds / bout.bursts - time.monotonic())
            for _ in range(bout.burst):
                tasks.create_task(idlers.turn(bout.text, played.burst, played.errors))
    return played


@asynccontextmanager
async def _gathered(crowd: Crowd, chance: random.Random) -> AsyncIterator[list[_Stream]]:
    channels = Channels(crowd.target)
    streams = [_Stream(channels.one()) for _ in range(crowd.streams)]
    room = asyncio.Semaphore(_OPENING)

    async def opened(stream: _Stream) -> None:
        async with room:
            await stream.open()

    await asyncio.gather(*(opened(stream) for stream in streams))
    async with asyncio.TaskGroup() as tasks:
        for stream in streams:
            tasks.create_task(stream.read())
            tasks.create_task(stream.ping(chance.random()))
        yield streams
        sys.exit(0)  # whoever asked asks no more


async def _stand_by(crowd: Crowd) -> None:
    chance = random.Random(crowd.seed)
    async with _gathered(crowd, chance) as streams:
        idlers = _Idlers(streams, chance)
        _say("ready")
        while line := await asyncio.to_thread(sys.stdin.readline):
            bout = Bout(**json.loads(line))
            _tell(bout.out, await _play(bout, idlers, chance))
            _say("done")


def _tell(path: str, played: Played) -> None:
    Path(path).write_text(json.dumps(asdict(played)))


def _say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    uvloop.run(_stand_by(Crowd(**json.loads(sys.stdin.readline()))))
