"""Puts an implementation behind gRPC: parses, validates, calls, and turns errors into statuses.

Requests are parsed here and not by grpc, which answers bytes that are no protobuf with INTERNAL. Responses may be
messages or bytes that are serialised already, so that stored events are spliced into frames as they are.

What grpc.aio does to a streaming method, measured: when a client cancels, breaks off or sends more than
`grpc.max_receive_message_length`, the request iterator mostly ends first, just as on half-close, and CancelledError
comes after. When that happens while a response is being sent, grpc drops a method that is a generator where it stands.
So to grpc they are coroutines that write, and the implementation's generator sees CancelledError, also at a `yield`.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

import grpc.aio
import structlog
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from grpc._cython import cygrpc

from agent_runtime import v1
from agent_runtime_server.core.errors import Bug, CallerError, ServiceError, invalid
from agent_runtime_server.core.ids import new_id
from agent_runtime_server.core.principal import LOCAL, Principal
from agent_runtime_server.rpc.access import ACCESS, PACKAGE
from agent_runtime_server.rpc.gate import Gate
from agent_runtime_server.rpc.inbox import Inbox
from agent_runtime_server.rpc.outbox import Outbox
from agent_runtime_server.rpc.status import end
from agent_runtime_server.rpc.streams import OpenStream
from agent_runtime_server.rpc.validation import validate

MAX_FRAME_BYTES: Final = 3 << 19
"""Largest request or frame accepted, 1.5 MiB."""

REQUEST_SECONDS: Final = 10.0
"""How long a call may take to bring the request that belongs to it."""

CORRELATION_ID: Final = "x-correlation-id"
_LONGEST_CORRELATION_ID: Final = 128

if TYPE_CHECKING:
    AnyContext = grpc.aio.ServicerContext[Any, Any]
    AnyHandler = grpc.RpcMethodHandler[Any, Any]


class Logger(Protocol):
    """The part of a structlog logger that is used here."""

    def exception(self, event: str, /, **fields: object) -> object:
        """Log an error with the exception being handled."""
        ...


@dataclass(slots=True)
class Call:
    """What a method knows about the RPC besides its request."""

    method: str
    """Full name, such as agent_runtime.v1.ChatService.Chat."""
    correlation_id: str
    peer: str
    metadata: Mapping[str, str]
    """Text metadata by lower-case key; the first value of each."""
    principal: Principal = LOCAL
    """Who calls."""
    stream: OpenStream = field(default_factory=OpenStream)
    """The stream of a streaming RPC, for whoever writes to it."""
    slip_in: "Callable[[Outgoing], bool]" = lambda _response: False
    """Sends a response while the method itself waits for something to yield; False when that cannot be now."""
    in_passing: "Callable[[Incoming], bool]" = lambda _request: False
    """Sees to a frame that comes while the method waits for one; False for what the method itself has to take."""
    trailing: dict[str, str] = field(default_factory=dict)
    """Metadata that goes with the answer of a unary RPC."""


@dataclass(frozen=True, slots=True)
class BadFrame:
    """Stands in a request stream for bytes that are no frame; `error` is what to answer."""

    error: ServiceError
    frame_id: str = ""


class Malformed(BadFrame):
    """The bytes are not the protobuf message that was expected."""


class TooLarge(BadFrame):
    """The frame is larger than the limit; its frame_id is known when it could be read."""


Incoming = Message | BadFrame
Outgoing = Message | bytes
Unary = Callable[[Any, Call], Awaitable[Outgoing]]
Responses = AsyncGenerator[Outgoing | list[Outgoing], None]
"""Of a stream; those in a list are there at the same moment, and leave together."""
Streaming = Callable[[Any, Call], Responses]


def handlers(
    service: str | ServiceDescriptor,
    implementation: object,
    *,
    gate: Gate | None = None,
    logger: Logger | None = None,
    max_frame_bytes: int = MAX_FRAME_BYTES,
) -> grpc.GenericRpcHandler:
    """Return the handler of a service (a full name or a descriptor).

    Its RPC `CreateSession` is the implementation's `create_session`:
    Unary: `async def create_session(request, call) -> message or bytes`; the request is validated.
    Server streaming: `async def subscribe_events(request, call)` with `yield`, the request likewise.
    Two-way streaming: `async def chat(requests, call)` with `yield`; `requests` yields messages, not validated
    because frames have answers of their own, and a BadFrame for what is no acceptable message.
    Without a gate the service is open to everybody.
    """
    log = logger or structlog.get_logger(__name__)
    descriptor = descriptor_pool.Default().FindServiceByName(service) if isinstance(service, str) else service
    edges = [_Edge(method, implementation, gate, log, max_frame_bytes) for method in descriptor.methods]
    return grpc.method_handlers_generic_handler(descriptor.full_name, {edge.name: edge.handler() for edge in edges})


class _Edge:
    """One RPC between grpc and the implementation."""

    def __init__(
        self, method: MethodDescriptor, implementation: object, gate: Gate | None, log: Logger, max_bytes: int
    ) -> None:
        if gate is not None and method.full_name.removeprefix(PACKAGE) not in ACCESS:
            raise LookupError(f"{method.full_name} is not in the table of who may call what")
        self.name = method.name
        self._gate = gate
        self._descriptor = method
        self._behaviour: Any = getattr(implementation, snake_case(method.name))
        self._parse = parser(GetMessageClass(method.input_type), max_bytes)
        self._log = log

    def handler(self) -> "AnyHandler":
        # All of them take streams, which is the same on the wire: grpc would wait for ever for one request.
        if not self._descriptor.server_streaming:
            return grpc.stream_unary_rpc_method_handler(self._unary, self._parse, serialise)
        return grpc.stream_stream_rpc_method_handler(self._stream, self._parse, serialise)

    async def _unary(self, _requests: AsyncIterator[Incoming], context: "AnyContext") -> Outgoing:
        call = await self._begin(context)
        try:
            await self._admit(call, context)
            response: Outgoing = await self._behaviour(_accepted(await only(context)), call)
        except Exception as error:  # noqa: BLE001 # the seam: what passes here would be sent to the caller as text
            end(context, self._failure(error, call), correlation_id=call.correlation_id)
            error.__traceback__ = None  # it holds the frames and with them the request, which may hold the error
            return b""
        context.set_trailing_metadata(tuple(call.trailing.items()))
        return response

    async def _stream(self, _requests: AsyncIterator[Incoming], context: "AnyContext") -> None:
        call = await self._begin(context)
        try:
            await self._admit(call, context)
            with self._counted(call) as call.stream:
                source = await self._source(call, context)
                out = Outbox(context.write, serialise)
                call.slip_in = out.slip_in
                await self._send(self._behaviour(source, call), out, call)
        except cygrpc.ExecuteBatchError:
            raise  # nobody is there any more
        except Exception as error:  # noqa: BLE001 # the seam, as above
            end(context, self._failure(error, call), correlation_id=call.correlation_id)
            error.__traceback__ = None  # it holds the frames and with them the request, which may hold the error

    async def _source(self, call: Call, context: "AnyContext") -> Message | Inbox[Incoming]:
        if not self._descriptor.client_streaming:
            return _accepted(await only(context))
        return Inbox(context.read, self._parse, lambda frame: call.in_passing(frame))

    async def _send(self, responses: Responses, out: Outbox, call: Call) -> None:
        async for response in responses:
            try:
                await out.write(response if isinstance(response, list) else [response])
            except BaseException:
                await self._cancel(responses, call)
                raise
        await out.flush()

    async def _begin(self, context: "AnyContext") -> Call:
        call = _call(self._descriptor.full_name, context)
        # Every RPC has a task and with it a context of its own, so nothing needs to be unbound.
        structlog.contextvars.bind_contextvars(correlation_id=call.correlation_id)
        await context.send_initial_metadata(((CORRELATION_ID, call.correlation_id),))
        return call

    async def _admit(self, call: Call, context: "AnyContext") -> None:
        if self._gate is not None:
            call.principal = await self._gate.admit(call.method, call.metadata, context)

    def _counted(self, call: Call) -> AbstractContextManager[OpenStream]:
        return nullcontext(call.stream) if self._gate is None else self._gate.stream(call.principal, call.peer)

    async def _cancel(self, responses: Responses, call: Call) -> None:
        try:
            with suppress(asyncio.CancelledError, StopAsyncIteration):
                await responses.athrow(asyncio.CancelledError())
        except Exception as error:  # noqa: BLE001 # nobody is left to be told
            self._failure(error, call)

    def _failure(self, error: Exception, call: Call) -> ServiceError:
        """Return what the caller is told; a fault of ours is logged in full and told without its text."""
        failure = service_error(error)
        if failure is None or isinstance(failure, Bug):
            self._log.exception("rpc_failed", method=call.method, correlation_id=call.correlation_id)
            return Bug()
        return failure


def parser(message_class: type[Message], max_bytes: int) -> Callable[[bytes], Incoming]:
    """Return a deserialiser that returns a BadFrame where others raise."""

    def parse(data: bytes) -> Incoming:
        message: Message | None = None
        with suppress(DecodeError):
            message = message_class.FromString(data)
        if len(data) > max_bytes:
            return TooLarge(_too_large(len(data), max_bytes), getattr(message, "frame_id", ""))
        return Malformed(_malformed(message_class)) if message is None else message

    return parse


async def only(context: "AnyContext") -> Incoming:
    """Return the one request of a call that has no more; it must come soon."""
    try:
        async with asyncio.timeout(REQUEST_SECONDS):
            request: Any = await context.read()
    except TimeoutError:
        message = f"the request did not come within {REQUEST_SECONDS:g} s"
        raise CallerError(v1.ERROR_REASON_CLIENT_IDLE_TIMEOUT, message) from None
    if request is grpc.aio.EOF:
        raise invalid("", "message.missing", "send one request")
    assert isinstance(request, Incoming), "the parser makes nothing else"
    return request


def serialise(response: Outgoing) -> bytes:
    """Return the response's bytes; what is bytes already stays as it is."""
    return response if isinstance(response, bytes) else response.SerializeToString()


def service_error(error: BaseException) -> ServiceError | None:
    """Return the error of ours that an exception is, or that a TaskGroup wrapped; None for anything else."""
    if isinstance(error, BaseExceptionGroup):
        leaves = [service_error(inner) for inner in error.exceptions]
        return leaves[0] if all(leaves) else None
    return error if isinstance(error, ServiceError) else None


def snake_case(name: str) -> str:
    """Return `create_session` for `CreateSession`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def _accepted(request: Incoming) -> Message:
    if isinstance(request, BadFrame):
        raise request.error
    validate(request)
    return request


def _malformed(message_class: type[Message]) -> ServiceError:
    name = message_class.DESCRIPTOR.full_name
    return invalid("", "message.parse", f"the bytes are no {name}: send this protobuf message, its strings in UTF-8")


def _too_large(size: int, most: int) -> ServiceError:
    message = f"the message is {size} bytes long: send at most {most}"
    metadata = {"sizeBytes": str(size), "maxFrameBytes": str(most)}
    return CallerError(v1.ERROR_REASON_FRAME_TOO_LARGE, message, metadata=metadata)


def _call(method: str, context: "AnyContext") -> Call:
    metadata: dict[str, str] = {}
    for key, value in context.invocation_metadata() or ():
        if isinstance(value, str):
            metadata.setdefault(key, value)
    return Call(method, correlation_id(metadata.get(CORRELATION_ID, "")), context.peer(), metadata)


def correlation_id(given: str) -> str:
    """Return the caller's correlation id when it is fit for logs, else a new one."""
    fit = given.isascii() and given.isprintable() and 0 < len(given) <= _LONGEST_CORRELATION_ID
    return given if fit else new_id("req")
