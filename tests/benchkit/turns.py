"""What a load client plays: turns on a Chat stream, calls of the model itself, calls of other servers."""

import asyncio
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import grpc.aio

from agent_runtime import v1
from agent_runtime.v1 import chat_service_pb2_grpc, session_service_pb2_grpc

_TURNS_A_SESSION: Final = 50  # then another one, so that prompts stay short
_CONNECTIONS: Final = 8


@dataclass(slots=True)
class Turn:
    """One turn as its client saw it; times in seconds of the monotonic clock."""

    began: float
    ended: float = 0
    first: float = 0  # when the first token came
    acked: float = 0
    tokens: int = 0
    offsets: float = 0  # sum over tokens of the time since the beginning
    frames: int = 0

    def token(self, now: float, count: int) -> None:
        """Note tokens."""
        self.first = self.first or now
        self.tokens += count
        self.offsets += (now - self.began) * count


class Player(Protocol):
    """One of the load's workers."""

    async def play(self, text: str) -> Turn:
        """Play one turn."""
        ...

    async def close(self) -> None:
        """Let go."""
        ...


@dataclass(slots=True)
class Channels:
    """A few connections that the players of a process share."""

    target: str
    _open: list[grpc.aio.Channel] = field(default_factory=list)
    _next: int = 0

    def one(self) -> grpc.aio.Channel:
        """Return a connection, in turn."""
        if len(self._open) < _CONNECTIONS:
            options = [("grpc.use_local_subchannel_pool", 1)]
            self._open.append(grpc.aio.insecure_channel(self.target, options=options))
        self._next += 1
        return self._open[self._next % len(self._open)]

    async def close(self) -> None:
        """Close them."""
        for channel in self._open:
            await channel.close()


class ChatPlayer:
    """Turns on a Chat stream; the bare server takes no session."""

    def __init__(self, channel: grpc.aio.Channel, *, bare: bool) -> None:
        self._chat: Any = chat_service_pb2_grpc.ChatServiceStub(channel)
        self._sessions: Any = session_service_pb2_grpc.SessionServiceStub(channel)
        self._bare = bare
        self.session_id = "bench"
        self._call: Any = None
        self._turns = 0

    async def open(self) -> None:
        """Attach to a fresh session."""
        await self.close()
        if not self._bare:
            answer = await self._sessions.CreateSession(v1.CreateSessionRequest(agent_id="coder"))
            self.session_id = answer.session.session_id
        self._call = self._chat.Chat()
        hello = v1.ChatHello(session_id=self.session_id, client_id="bench", protocol_version=1)
        await self._call.write(v1.ChatRequest(hello=hello))
        last = "welcome" if self._bare else "caught_up"
        while (await self._read()).WhichOneof("frame") != last:
            pass

    async def _read(self) -> v1.ChatResponse:
        frame = await self._call.read()
        if frame is grpc.aio.EOF:
            raise RuntimeError(f"the stream ended: {await self._call.code()} {await self._call.details()}")
        assert isinstance(frame, v1.ChatResponse)
        return frame

    async def play(self, text: str) -> Turn:
        """Say it and read until the turn has finished."""
        if self._call is None or (self._turns and self._turns % _TURNS_A_SESSION == 0):
            await self.open()
        self._turns += 1
        message = v1.UserMessage(parts=[v1.Part(text=text)])
        turn = Turn(time.monotonic())
        await self._call.write(v1.ChatRequest(frame_id=uuid.uuid4().hex, user_message=message))
        acked = self._bare
        while not (turn.ended and acked):
            frame = await self._read()
            acked = _note(turn, frame) or acked
        return turn

    async def close(self) -> None:
        """Leave."""
        if self._call is not None:
            self._call.cancel()
            self._call = None


def _note(turn: Turn, frame: v1.ChatResponse) -> bool:
    """Note a frame; True when it is the ack."""
    now = time.monotonic()
    turn.frames += 1
    kind = frame.WhichOneof("frame")
    if kind == "message_delta":
        turn.token(now, frame.message_delta.text.count(" "))
    elif kind == "event" and frame.event.HasField("turn_finished"):
        if frame.event.turn_finished.state != v1.TURN_STATE_COMPLETED:
            raise RuntimeError(f"a turn failed: {frame.event.turn_finished}")
        turn.ended = now
    elif kind == "frame_ack":
        if frame.frame_ack.outcome != v1.FrameAck.OUTCOME_ACCEPTED:
            raise RuntimeError(f"a message was refused: {frame.frame_ack}")
        turn.acked = now
        return True
    return False


class HttpPlayer(asyncio.Protocol):
    """POSTs whose answers are streamed by chunks, with as little as possible between."""

    def __init__(self, host: str, port: int, request: Callable[[str], bytes], token: bytes) -> None:
        self._host, self._port = host, port
        self._request = request
        self._token = token
        self._transport: asyncio.Transport | None = None
        self._turn = Turn(0)
        self._tail = b""
        self._answered: asyncio.Future[Turn] | None = None

    async def play(self, text: str) -> Turn:
        """Send the request and read to its end."""
        loop = asyncio.get_running_loop()
        if self._transport is None:
            await loop.create_connection(lambda: self, self._host, self._port)
        assert self._transport is not None
        self._answered = loop.create_future()
        self._tail = b""
        self._turn = Turn(time.monotonic())
        self._transport.write(self._request(text))
        return await self._answered

    async def close(self) -> None:
        """Leave."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport  # type: ignore[assignment] # uvloop's transports are no subclass

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail what is asked, connect anew for what follows."""
        self._transport = None
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(exc or ConnectionError("the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        """Count tokens; the last chunk ends the answer."""
        now = time.monotonic()
        turn = self._turn
        turn.frames += data.count(b"\ndata:") + data.startswith(b"data:")
        if count := data.count(self._token):
            turn.token(now, count)
        self._tail = (self._tail + data)[-7:]
        if self._tail.endswith(b"0\r\n\r\n") and self._answered is not None and not self._answered.done():
            turn.ended = now
            self._answered.set_result(turn)


class StreamPlayer:
    """A server-streaming RPC of any service, its request made by another program."""

    def __init__(self, channel: grpc.aio.Channel, method: str, request: Callable[[str], bytes], token: bytes) -> None:
        self._call: Any = channel.unary_stream(method)
        self._request = request
        self._token = token

    async def play(self, text: str) -> Turn:
        """Call and read to the end."""
        turn = Turn(time.monotonic())
        async for frame in self._call(self._request(text)):
            turn.frames += 1
            if count := frame.count(self._token):
                turn.token(time.monotonic(), count)
        turn.ended = time.monotonic()
        return turn

    async def close(self) -> None:
        """Nothing is kept open."""
