"""A running server with the sessions that bad input is sent to, and the means to send it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from agent_runtime import v1
from badinput.case import Case, Facts, Told
from badinput.frames import CHAT, hello, review
from servicekit.service import Service, tools

PACKAGE = "agent_runtime.v1"
_FIELDS_SHOWN, _LONGEST_SHOWN = 20, 200


class World:
    """Sends what it is told to send, and returns what it was told in turn."""

    def __init__(self, service: Service, facts: Facts) -> None:
        self.service = service
        self.facts = facts

    async def request(self, case: Case) -> "Answer":
        """Send a request and return its error."""
        service, method = case.where.split(".")
        path = f"/{PACKAGE}.{service}/{method}"
        channel: Any = self.service.channel
        if method == "SubscribeEvents":
            call = channel.unary_stream(path)(case.made(self.facts)).read()
        else:
            call = channel.unary_unary(path)(case.made(self.facts))
        return await _error_of(call)

    async def opening(self, case: Case) -> "Answer":
        """Open a stream with a frame and return the error that ends it."""
        stream = self._stream(case.where)
        await _write(stream, case.made(self.facts))
        return await _error_of(stream.read())

    async def frame(self, case: Case) -> "Answer":
        """Send a frame on a good stream and return its rejection; the stream must go on."""
        session = "" if case.where.startswith("HitlService") else case.where
        async with self.attached(session) as stream:
            await _write(stream, case.made(self.facts))
            ack = (await _next(stream, "frame_ack")).frame_ack
            assert ack.outcome == v1.FrameAck.OUTCOME_REJECTED, ack
            ping = v1.HitlRequest if not session else v1.ChatRequest
            await stream.write(ping(ping=v1.Ping(nonce=4711)).SerializeToString())
            while (await _next(stream, "heartbeat")).heartbeat.ping_nonce != 4711:
                pass
        return Answer(ack.error.code, ack.error.reason, [found.field for found in ack.error.field_violations])

    async def ending(self, case: Case) -> "Answer":
        """Send a frame on a good stream and return the error that ends it."""
        async with self.attached("good" if case.where == CHAT else "") as stream:
            await _write(stream, case.made(self.facts))
            return await _error_of(_next(stream, "nothing"))

    @asynccontextmanager
    async def attached(self, session: str) -> AsyncIterator[Any]:
        """Attach to a session as its executor, or as a reviewer where there is none."""
        first = hello(session_id=session, tools=tools("read_file", "write_file")) if session else review()
        stream = self._stream(CHAT if session else "HitlService.Hitl")
        await stream.write(first.SerializeToString())
        await _next(stream, "caught_up")
        try:
            yield stream
        finally:
            stream.cancel()

    async def is_well(self) -> bool:
        """Whether the server serves the next good request."""
        answer = await self.service.sessions.GetSession(v1.GetSessionRequest(session_id="good"))
        return bool(answer.session.session_id == "good")

    def _stream(self, rpc: str) -> Any:
        service, method = rpc.split(".")
        answer = v1.ChatResponse if rpc == CHAT else v1.HitlResponse
        path = f"/{PACKAGE}.{service}/{method}"
        return self.service.channel.stream_stream(path, response_deserializer=answer.FromString)()


class Answer:
    """The error that came."""

    def __init__(self, code: int, reason: str, fields: list[str]) -> None:
        self.code = code
        self.reason = reason
        self.fields = fields

    def is_as(self, told: Told) -> bool:
        """Whether this is what a caller must be told."""
        same = (self.code, self.reason) == (told.code, told.reason)
        return same and (told.field is None or told.field in self.fields)

    def __repr__(self) -> str:
        return f"{self.code} {self.reason} {self.fields[:_FIELDS_SHOWN]}"


async def build(service: Service) -> World:
    """Make the sessions: good and idle, closed, waiting for an approval, running a call."""
    for session_id in ("good", "closed", "waiting", "running"):
        await service.sessions.CreateSession(v1.CreateSessionRequest(session_id=session_id, agent_id="coder"))
    await service.sessions.CloseSession(v1.CloseSessionRequest(session_id="closed"))
    declared = tools("read_file", "write_file")
    async with service.chat("waiting", client_id="ide", tools=declared) as chat:
        await chat.say("create file a.txt with hi")
        approval = (await chat.event("approval_requested")).approval_requested.approval
    async with service.chat("running", client_id="ide", tools=declared) as chat:
        await chat.say("read file a.txt")
        dispatched = (await chat.event("tool_call_dispatched")).tool_call_dispatched.tool_call
    asked = approval.tool_call
    return World(service, Facts(approval.approval_id, asked.arguments_sha256, asked.call_id, dispatched.call_id))


async def _write(stream: Any, data: bytes) -> None:
    try:
        await stream.write(data)
    except grpc.aio.AioRpcError:
        return  # the stream ended already; reading says how


async def _next(stream: Any, kind: str) -> Any:
    while True:
        frame = await stream.read()
        assert frame is not grpc.aio.EOF, "the stream ended well"
        if frame.WhichOneof("frame") == kind:
            return frame


async def _error_of(call: Any) -> Answer:
    try:
        answer = await call
    except grpc.aio.AioRpcError as error:
        return _answer(error)
    return Answer(0, "", [str(answer)[:_LONGEST_SHOWN]])


def _answer(error: grpc.aio.AioRpcError) -> Answer:
    status = rpc_status.from_call(error)  # type: ignore[arg-type] # it reads what both kinds of call have
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in status.details if status is not None else ():
        detail.Unpack(info)
        detail.Unpack(bad)
    code: int = error.code().value[0]
    return Answer(code, info.reason, [found.field for found in bad.field_violations])
