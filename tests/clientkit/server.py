"""A server that speaks the contract and does what the test tells it, frame by frame."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Generic, TypeVar

import grpc
from google.protobuf import any_pb2
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from grpc._cython import cygrpc
from grpc_status import rpc_status

from agent_runtime import v1
from agent_runtime.v1 import (
    chat_service_pb2_grpc,
    event_service_pb2_grpc,
    hitl_service_pb2_grpc,
    session_service_pb2_grpc,
)

Up = TypeVar("Up")
Down = TypeVar("Down")


def status(
    code: grpc.StatusCode,
    reason: str = "",
    *,
    message: str = "said by the test",
    metadata: dict[str, str] | None = None,
    retry_delay: float | None = None,
) -> Any:
    """Build a terminal status with the contract's details."""
    details = []
    if reason:
        info = error_details_pb2.ErrorInfo(reason=reason, domain="agent_runtime.v1", metadata=metadata or {})
        details.append(info)
    if retry_delay is not None:
        details.append(error_details_pb2.RetryInfo(retry_delay=Duration(nanos=int(retry_delay * 1e9))))
    packed = []
    for detail in details:
        item = any_pb2.Any()
        item.Pack(detail)
        packed.append(item)
    return rpc_status.to_status(status_pb2.Status(code=code.value[0], message=message, details=packed))


class ClientGone(Exception):
    """The client left while a frame was being sent to it."""


class Stream(Generic[Up, Down]):
    """One stream as the test sees it from the server's side."""

    def __init__(self, context: Any, first: Up) -> None:
        self._context = context
        self._end: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.first = first
        self.peer: str = context.peer()
        self.metadata = dict(context.invocation_metadata() or ())

    async def send(self, frame: Down) -> None:
        """Send a frame to the client; raises ClientGone when it has left."""
        try:
            await self._context.write(frame)
        except cygrpc.BaseError as error:  # gRPC's own, which it has no public name for
            raise ClientGone from error

    async def receive(self) -> Up:
        """Return the client's next frame."""
        async with asyncio.timeout(5):
            frame: Up = await self._context.read()
        assert frame is not grpc.aio.EOF, "the client ended the stream"
        return frame

    def end(self, how: Any = None) -> None:
        """End the stream, with OK unless told otherwise."""
        if not self._end.done():
            self._end.set_result(how)

    async def serve(self) -> None:
        """Keep the RPC open until the test ends it."""
        how = await self._end
        if how is not None:
            await self._context.abort_with_status(how)


class ChatStream(Stream[v1.ChatRequest, v1.ChatResponse]):
    """A Chat stream with the frames tests use most."""

    @property
    def hello(self) -> v1.ChatHello:
        """The client's first frame."""
        return self.first.hello

    async def welcome(self, *events: v1.SessionEvent, head: int = 0, **fields: Any) -> None:
        """Send welcome, the replay and caught_up."""
        head = max([head, *(event.seq for event in events)])
        session = fields.pop("session", v1.Session(session_id=self.hello.session_id, head_seq=head))
        welcome = v1.ChatWelcome(session=session, role=self.hello.role, head_seq=head, **fields)
        await self.send(v1.ChatResponse(welcome=welcome))
        await self.events(*events)
        await self.send(v1.ChatResponse(caught_up=v1.CaughtUp(head_seq=head)))

    async def events(self, *events: v1.SessionEvent) -> None:
        """Send events."""
        for event in events:
            await self.send(v1.ChatResponse(event=event))

    async def ack(
        self, frame: v1.ChatRequest, seq: int = 0, *, duplicate: bool = False, error: v1.Error | None = None
    ) -> None:
        """Confirm or refuse a frame."""
        outcome = v1.FrameAck.OUTCOME_DUPLICATE if duplicate else v1.FrameAck.OUTCOME_ACCEPTED
        if error is not None:
            outcome = v1.FrameAck.OUTCOME_REJECTED
        ack = v1.FrameAck(frame_id=frame.frame_id, outcome=outcome, seq=seq, error=error)
        await self.send(v1.ChatResponse(frame_ack=ack))


class HitlStream(Stream[v1.HitlRequest, v1.HitlResponse]):
    """A Hitl stream."""


class ScriptedServer:
    """The servicers; each new stream waits in a queue for the test."""

    def __init__(self) -> None:
        self.chats: asyncio.Queue[ChatStream] = asyncio.Queue()
        self.hitls: asyncio.Queue[HitlStream] = asyncio.Queue()
        self.feeds: asyncio.Queue[Stream[v1.SubscribeEventsRequest, v1.SubscribeEventsResponse]] = asyncio.Queue()
        self.log: list[v1.SessionEvent] = []
        self.submitted: list[v1.SubmitFrameRequest] = []
        self.approvals: dict[str, v1.Approval] = {}
        self.refusals: list[Any] = []
        self.port = 0
        self._server: grpc.aio.Server | None = None

    async def start(self, port: int = 0) -> None:
        """Listen."""
        self._server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        chat_service_pb2_grpc.add_ChatServiceServicer_to_server(_Chat(self), self._server)
        hitl_service_pb2_grpc.add_HitlServiceServicer_to_server(_Hitl(self), self._server)
        event_service_pb2_grpc.add_EventServiceServicer_to_server(_Feed(self), self._server)
        session_service_pb2_grpc.add_SessionServiceServicer_to_server(_Sessions(self), self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        await self._server.start()

    async def stop(self) -> None:
        """End all streams and stop listening."""
        if self._server is not None:
            await self._server.stop(0)

    @property
    def target(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"

    async def chat(self) -> ChatStream:
        """Return the next Chat stream that a client opens."""
        async with asyncio.timeout(5):
            return await self.chats.get()

    async def hitl(self) -> HitlStream:
        """Return the next Hitl stream."""
        async with asyncio.timeout(5):
            return await self.hitls.get()

    async def feed(self) -> Stream[v1.SubscribeEventsRequest, v1.SubscribeEventsResponse]:
        """Return the next SubscribeEvents stream."""
        async with asyncio.timeout(5):
            return await self.feeds.get()


class _Chat(chat_service_pb2_grpc.ChatServiceServicer):
    def __init__(self, kit: ScriptedServer) -> None:
        self._kit = kit

    async def Chat(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override]  # noqa: N802
        if self._kit.refusals:
            await context.abort_with_status(self._kit.refusals.pop(0))
        stream = ChatStream(context, await context.read())
        self._kit.chats.put_nowait(stream)
        await stream.serve()

    async def SubmitFrame(self, request: v1.SubmitFrameRequest, context: Any) -> v1.SubmitFrameResponse:  # noqa: N802
        self._kit.submitted.append(request)
        if self._kit.refusals:
            await context.abort_with_status(self._kit.refusals.pop(0))
        ack = v1.FrameAck(frame_id=request.frame.frame_id, outcome=v1.FrameAck.OUTCOME_ACCEPTED)
        return v1.SubmitFrameResponse(frame_ack=ack)


class _Hitl(hitl_service_pb2_grpc.HitlServiceServicer):
    def __init__(self, kit: ScriptedServer) -> None:
        self._kit = kit

    async def Hitl(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override]  # noqa: N802
        stream = HitlStream(context, await context.read())
        self._kit.hitls.put_nowait(stream)
        await stream.serve()

    async def GetApproval(self, request: v1.GetApprovalRequest, context: Any) -> v1.GetApprovalResponse:  # noqa: N802
        return v1.GetApprovalResponse(approval=self._kit.approvals[request.approval_id])

    async def ListApprovals(self, request: v1.ListApprovalsRequest, context: Any) -> v1.ListApprovalsResponse:  # noqa: N802
        return v1.ListApprovalsResponse(approvals=self._kit.approvals.values())

    async def DecideApproval(self, request: v1.DecideApprovalRequest, context: Any) -> v1.DecideApprovalResponse:  # noqa: N802
        return v1.DecideApprovalResponse(approval=self._kit.approvals[request.decision.approval_id])


class _Feed(event_service_pb2_grpc.EventServiceServicer):
    def __init__(self, kit: ScriptedServer) -> None:
        self._kit = kit

    async def SubscribeEvents(self, request: v1.SubscribeEventsRequest, context: Any) -> None:  # type: ignore[override]  # noqa: N802
        stream: Stream[v1.SubscribeEventsRequest, v1.SubscribeEventsResponse] = Stream(context, request)
        self._kit.feeds.put_nowait(stream)
        await stream.serve()


class _Sessions(session_service_pb2_grpc.SessionServiceServicer):
    def __init__(self, kit: ScriptedServer) -> None:
        self._kit = kit

    async def GetSession(self, request: v1.GetSessionRequest, context: Any) -> v1.GetSessionResponse:  # noqa: N802
        if self._kit.refusals:
            await context.abort_with_status(self._kit.refusals.pop(0))
        return v1.GetSessionResponse(session=v1.Session(session_id=request.session_id))

    async def ListSessionEvents(  # noqa: N802
        self, request: v1.ListSessionEventsRequest, context: Any
    ) -> v1.ListSessionEventsResponse:
        page = [event for event in self._kit.log if event.seq > request.after_seq][:2]
        last = page[-1].seq if page else request.after_seq
        return v1.ListSessionEventsResponse(events=page, last_seq=last, head_seq=len(self._kit.log))

    async def CreateSession(self, request: Any, context: Any) -> Any:  # noqa: N802
        raise NotImplementedError

    async def ListSessions(self, request: Any, context: Any) -> Any:  # noqa: N802
        raise NotImplementedError

    async def UpdateSession(self, request: Any, context: Any) -> Any:  # noqa: N802
        raise NotImplementedError

    async def ForkSession(self, request: Any, context: Any) -> Any:  # noqa: N802
        raise NotImplementedError

    async def CloseSession(self, request: Any, context: Any) -> Any:  # noqa: N802
        raise NotImplementedError


async def until(condition: Callable[[], bool]) -> None:
    """Wait until the loop has made `condition` true."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - the condition is another program's
            await asyncio.sleep(0.005)


async def take(source: AsyncIterator[Any], kind: type[Any]) -> Any:
    """Return the next item of one kind, passing over others."""
    async with asyncio.timeout(5):
        async for item in source:
            if isinstance(item, kind):
                return item
    raise AssertionError(f"ended without a {kind.__name__}")
