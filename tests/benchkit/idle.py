"""A client of many streams that do next to nothing: each pings as the contract asks, a share takes a turn a minute.

It reads a Crowd as JSON, opens its streams, says `ready` and how long that took, and goes on until its input ends.
"""

import asyncio
import json
import random
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import grpc.aio
import uvloop

from agent_runtime import v1
from agent_runtime.v1 import chat_service_pb2_grpc, session_service_pb2_grpc
from benchkit.turns import Channels

_OPENING: Final = 32
_PING_SECONDS: Final = 30
_TURN_SECONDS: Final = 60


@dataclass(frozen=True, slots=True)
class Crowd:
    """So many streams, and how many of them take turns."""

    target: str
    streams: int
    active: int
    seed: int


class _Stream:
    """One of them."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._sessions: Any = session_service_pb2_grpc.SessionServiceStub(channel)
        self._chat: Any = chat_service_pb2_grpc.ChatServiceStub(channel)
        self._call: Any = None
        self.frames = self.turns = 0

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
            self.frames += 1
            if frame.WhichOneof("frame") == "event" and frame.event.HasField("turn_finished"):
                self.turns += 1
        raise RuntimeError(f"a stream ended: {await self._call.code()} {await self._call.details()}")

    async def ping(self, first: float) -> None:
        await asyncio.sleep(first * _PING_SECONDS)
        while True:
            await self._call.write(v1.ChatRequest(ping=v1.Ping(nonce=1)))
            await asyncio.sleep(_PING_SECONDS)

    async def speak(self, first: float, number: int) -> None:
        message = v1.UserMessage(parts=[v1.Part(text="delay=5 tokens=64")])
        await asyncio.sleep(first * _TURN_SECONDS)
        while True:
            number += 1
            await self._call.write(v1.ChatRequest(frame_id=f"idle-{number}", user_message=message))
            await asyncio.sleep(_TURN_SECONDS)


async def _gather(crowd: Crowd) -> None:
    channels, chance = Channels(crowd.target), random.Random(crowd.seed)
    streams = [_Stream(channels.one()) for _ in range(crowd.streams)]
    room, began = asyncio.Semaphore(_OPENING), time.monotonic()

    async def opened(stream: _Stream) -> None:
        async with room:
            await stream.open()

    await asyncio.gather(*(opened(stream) for stream in streams))
    with suppress(asyncio.CancelledError):
        async with asyncio.TaskGroup() as tasks:
            for number, stream in enumerate(streams):
                tasks.create_task(stream.read())
                tasks.create_task(stream.ping(chance.random()))
                if number < crowd.active:
                    tasks.create_task(stream.speak(chance.random(), 0))
            sys.stdout.write(f"ready {time.monotonic() - began}\n")
            sys.stdout.flush()
            await asyncio.to_thread(sys.stdin.readline)
            told = {"frames": sum(stream.frames for stream in streams), "turns": sum(one.turns for one in streams)}
            sys.stdout.write(json.dumps(told) + "\n")
            sys.stdout.flush()
            raise asyncio.CancelledError


if __name__ == "__main__":
    uvloop.run(_gather(Crowd(**json.loads(sys.stdin.readline()))))
