"""One client's end of a Chat stream, on which one turn is played after the other."""

import time
import uuid
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import grpc.aio

from agent_runtime import v1
from agent_runtime.v1 import chat_service_pb2_grpc, session_service_pb2_grpc

_CONNECTIONS: Final = 4


@dataclass(slots=True)
class Turn:
    """A message and what became of it, in seconds of the machine's clock."""

    began: float
    first: float = 0  # when the first text came
    ended: float = 0
    accepted: bool = False
    refused: bool = False

    @property
    def over(self) -> bool:
        """Whether nothing more comes of it."""
        return self.refused or (self.accepted and bool(self.ended))


class Connections:
    """A caller's few connections."""

    def __init__(self, target: str, key: str) -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]
        self._channels = [grpc.aio.insecure_channel(target, options=options) for _ in range(_CONNECTIONS)]
        self._next = 0
        self.metadata = (("authorization", f"Bearer {key}"),) if key else ()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for channel in self._channels:
            await channel.close()

    def one(self) -> grpc.aio.Channel:
        """Return a connection, in turn."""
        self._next += 1
        return self._channels[self._next % _CONNECTIONS]


class Talk:
    """Sends a message and reads until it is refused or its turn has finished."""

    def __init__(self, connections: Connections) -> None:
        channel = connections.one()
        self._metadata = connections.metadata
        self._sessions: Any = session_service_pb2_grpc.SessionServiceStub(channel)
        self._chat: Any = chat_service_pb2_grpc.ChatServiceStub(channel)
        self._call: Any = None

    async def open(self) -> None:
        """Attach to a new session."""
        made = await self._sessions.CreateSession(v1.CreateSessionRequest(agent_id="coder"), metadata=self._metadata)
        self._call = self._chat.Chat(metadata=self._metadata)
        hello = v1.ChatHello(session_id=made.session.session_id, client_id="load", protocol_version=1)
        await self._call.write(v1.ChatRequest(hello=hello))
        while not (await self._read()).HasField("caught_up"):
            pass

    async def play(self, text: str) -> Turn:
        """Play one turn, if it is let begin; anything but a finished turn or a right refusal is an error."""
        message = v1.UserMessage(parts=[v1.Part(text=text)])
        turn = Turn(time.monotonic())
        await self._call.write(v1.ChatRequest(frame_id=uuid.uuid4().hex, user_message=message))
        while not turn.over:
            _note(turn, await self._read())
        return turn

    async def _read(self) -> v1.ChatResponse:
        frame = await self._call.read()
        if frame is grpc.aio.EOF:
            raise RuntimeError(f"the stream ended: {await self._call.code()} {await self._call.details()}")
        assert isinstance(frame, v1.ChatResponse)
        return frame


def _note(turn: Turn, frame: v1.ChatResponse) -> None:
    now = time.monotonic()
    match frame.WhichOneof("frame"):
        case "message_delta":
            turn.first = turn.first or now
        case "event" if frame.event.HasField("turn_finished"):
            if frame.event.turn_finished.state != v1.TURN_STATE_COMPLETED:
                raise RuntimeError(f"a turn failed: {frame.event.turn_finished}")
            turn.ended = now
        case "frame_ack":
            _settled(turn, frame.frame_ack, now)


def _settled(turn: Turn, ack: v1.FrameAck, now: float) -> None:
    if ack.outcome == v1.FrameAck.OUTCOME_ACCEPTED:
        turn.accepted = True
        return
    error = ack.error
    if error.reason != "QUOTA_EXCEEDED" or not error.metadata["quota"] or not error.HasField("retry_delay"):
        raise RuntimeError(f"a message was refused in no good way: {ack}")
    turn.refused, turn.ended = True, now
