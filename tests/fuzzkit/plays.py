"""What a fuzzing client does with one call, or with one connection: chosen by a seed, watched for what must not be."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from random import Random
from typing import Any, Final, TypeVar

import grpc.aio
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

from agent_runtime import v1
from fuzzkit import http2
from fuzzkit.damage import damaged
from fuzzkit.known import Known
from fuzzkit.methods import Method
from fuzzkit.shapes import Shaper
from fuzzkit.told import Finding, Tally, shown

BOUND_SECONDS: Final = 60.0
"""Every call has to end, or to say something, within this time."""

_FAULTS: Final = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS}
_UNEXPLAINED: Final = _FAULTS | {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
_WRITTEN_TOO_LATE: Final = 'Failed "execute_batch"'
"""What grpc.aio calls INTERNAL, too: a write to a call whose end it has not told yet."""
_FAULTY_ACKS: Final = ("INTERNAL", "DEPENDENCY_UNAVAILABLE")
_HOSTILITIES: Final = (0.0, 0.0, 0.01, 0.03, 0.1, 0.4, 1.0)
_BATCH: Final = 50  # frames, after which a ping tells that the server has read them
_NONCES: Final = 1 << 40
_FRAMES: Final = (1, 5, 30, 100, 300)
_FEW: Final = (1, 2, 3, 5)
_METADATA: Final = (
    ("x-correlation-id", "x" * 129), ("x-correlation-id", "%s{0}"), ("authorization", "Bearer"),
    ("authorization", "Bearer " + "x" * 4000), ("authorization", "Basic eDp5"), ("x-agent-runtime-lsn", "-1/x"),
    ("x-agent-runtime-lsn", "FFFFFFFF/FFFFFFFF"), ("traceparent", "00-" + "f" * 32 + "-" + "f" * 16 + "-ff"),
    ("traceparent", "x"),
    ("baggage", "a=b," * 500), ("x-large", "x" * 20_000), ("x-bytes-bin", bytes(range(256))), ("x-empty", ""),
)  # fmt: skip

T = TypeVar("T")


class Play:
    """One call or connection; `note` is told what must not be."""

    def __init__(self, seed: str, known: Known, tally: Tally, note: Callable[[Finding], None]) -> None:
        self.seed = seed
        self.random = Random(seed)
        self.known = known
        self._tally = tally
        self._note = note
        self._sent: deque[bytes] = deque(maxlen=6)
        self._where = ""
        self._explains: set[grpc.StatusCode] = set()  # codes that this play asks for
        self.session_id = ""  # of a chat
        self.head = 0  # the highest seq that was seen in it
        self.closed = False  # as its frames were told
        self._nonce = 0
        self._echoed = asyncio.Event()
        self._on_way = 0  # frames of which it is not known whether the server has read them
        self._answered_frames = 0

    async def call(self, channel: Any, method: Method) -> None:
        """Make one call."""
        self._where = method.name
        self._tally.plays[method.name] += 1
        metadata = self._metadata()
        timeout = self._timeout()
        if method.takes_stream:
            call = channel.stream_stream(method.path)(metadata=metadata, timeout=timeout)
            await self._talk(call, method)
        else:
            kind = channel.unary_stream if method.gives_stream else channel.unary_unary
            call = kind(method.path)(self._count(self._request(method.input)), metadata=metadata, timeout=timeout)
            await (self._listen(call, method) if method.gives_stream else self._answered(call, method))

    async def connection(self, target: str, methods: Sequence[Method]) -> None:
        """Write hostile bytes to a connection of its own, and wait until it ends or all is written."""
        self._where = "HTTP/2"
        self._tally.plays[self._where] += 1
        host, _, port = target.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))

        def message() -> bytes:
            return self._request(self.random.choice(methods).input)

        try:
            with suppress(OSError):  # the server may have closed it already
                for frame in http2.attack([method.path for method in methods], message, self.random):
                    writer.write(frame)
                    await self._in_time(writer.drain(), "a write")
                if self.random.random() < 0.5:
                    writer.write_eof()
                with suppress(TimeoutError):  # a connection may live on; that it takes nobody's place is seen elsewhere
                    async with asyncio.timeout(0.2):
                        while await reader.read(1 << 16):
                            pass
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    def _count(self, data: bytes) -> bytes:
        self._sent.append(data)
        self._tally.frames += 1
        return data

    def _request(self, descriptor: Descriptor) -> bytes:
        hostility = self.random.choice(_HOSTILITIES)
        data = Shaper(self.random, self.known, hostility).message(descriptor).SerializeToString()
        return damaged(data, self.random) if self.random.random() < 0.2 else data

    def _metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        if self.random.random() < 0.9:
            return ()
        return tuple(self.random.choices(_METADATA, k=self.random.choice((1, 2, 5))))

    def _timeout(self) -> float | None:
        if self.random.random() < 0.97:
            return None
        self._explains.add(grpc.StatusCode.DEADLINE_EXCEEDED)
        return self.random.choice((0.0, 0.001, 0.02, 0.3))

    async def _answered(self, call: Any, method: Method) -> None:
        if self.random.random() < 0.03:
            await asyncio.sleep(self.random.choice((0, 0, 0.002)))
            call.cancel()
            self._tally.statuses["cancelled by the client"] += 1
            return
        with suppress(grpc.aio.AioRpcError):
            self._learn(await self._in_time(call, "the answer"), method.output)
        await self._ended(call)

    async def _listen(self, call: Any, method: Method) -> None:
        many = 1 if method.name == "Health.Watch" else self.random.choice((1, 2, 5))  # health tells changes alone
        for _ in range(many):
            if not await self._read(call, method.output):
                return await self._ended(call)
        self._break_off(call)
        return None

    async def _talk(self, call: Any, method: Method) -> None:
        reading = asyncio.get_running_loop().create_task(self._read_all(call, method.output))
        try:
            with suppress(grpc.aio.AioRpcError, grpc.aio.InternalError, asyncio.InvalidStateError):
                for number, frame in enumerate(self._frames(method), start=1):
                    if reading.done():
                        break
                    self._sent.append(frame)
                    await self._in_time(call.write(frame), "a write")
                    self._on_way += 1
                    if method.talks and number % _BATCH == 0:
                        await self._echo(call, method, reading)
                if method.talks and not reading.done():
                    await self._echo(call, method, reading)
            await self._finish(call, reading)
        finally:
            reading.cancel()
            await asyncio.wait({reading})
        self._take(min(self._on_way, self._answered_frames + 1))  # the one that ended the stream, and those before it

    async def _echo(self, call: Any, method: Method, reading: "asyncio.Task[None]") -> None:
        """Wait until the server has read everything up to here, or the stream has ended."""
        self._nonce += 1
        self._echoed.clear()
        echoed = asyncio.get_running_loop().create_task(self._echoed.wait())
        try:
            await call.write(
                GetMessageClass(method.input)(ping=v1.Ping(nonce=_NONCES + self._nonce)).SerializeToString()
            )
            await asyncio.wait({echoed, reading}, timeout=BOUND_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            echoed.cancel()
        if self._echoed.is_set():
            self._take(self._on_way + 1)
        elif not reading.done():
            self._found(f"a ping was not answered within {BOUND_SECONDS:g} s")
            raise Hung

    def _take(self, frames: int) -> None:
        """Count what the server has read."""
        self._tally.frames += frames
        self._on_way = self._answered_frames = 0

    def _frames(self, method: Method) -> Iterator[bytes]:
        """Yield what a stream sends: mostly a good hello first, then frames that are mostly messages, or mostly not."""
        wild = self.random.random() < 0.3
        count = self.random.choice(_FEW if wild else _FRAMES)
        shaper = Shaper(self.random, self.known, self.random.choice(_HOSTILITIES[:-1]))
        if method.talks and self.random.random() < 0.93:
            yield self._hello(method.input)
        for _ in range(count):
            made = shaper.frame(method.input) if method.talks else shaper.message(method.input)
            data = made.SerializeToString()
            yield damaged(data, self.random) if wild and self.random.random() < 0.5 else data

    def _hello(self, descriptor: Descriptor) -> bytes:
        hostile = self.random.random() < 0.2
        shaper = Shaper(self.random, self.known, self.random.choice(_HOSTILITIES) if hostile else 0.0)
        kind = descriptor.fields_by_name["hello"].message_type
        assert kind is not None, "it is a message"
        hello: Any = shaper.message(kind)
        if not hostile:
            hello.protocol_version = 1
            if "after_seq" in hello.DESCRIPTOR.fields_by_name:
                self.session_id = hello.session_id
                again = self.random.random() < 0.03
                hello.after_seq = 0 if again else self.known.heads.get(hello.session_id, 0)
        return GetMessageClass(descriptor)(hello=hello).SerializeToString()

    async def _finish(self, call: Any, reading: "asyncio.Task[None]") -> None:
        """Leave a stream: half-close and wait, or break it off at some moment."""
        if self.random.random() < 0.5:
            with suppress(grpc.aio.AioRpcError, grpc.aio.InternalError, asyncio.InvalidStateError):
                await call.done_writing()
            await asyncio.wait({reading}, timeout=self.random.choice((0.5, 3)))
        else:
            await asyncio.wait({reading}, timeout=self.random.choice((0, 0.01, 0.5)))
        if not reading.done():
            self._break_off(call)

    def _break_off(self, call: Any) -> None:
        self._tally.statuses["cancelled by the client"] += 1
        call.cancel()

    async def _read_all(self, call: Any, output: Descriptor) -> None:
        if self.random.random() < 0.1:
            await asyncio.sleep(0.5)
        while await self._read(call, output):
            pass
        await self._ended(call)

    async def _read(self, call: Any, output: Descriptor) -> bool:
        try:
            data = await self._in_time(call.read(), "a frame")
        except grpc.aio.AioRpcError:
            return False
        if data is grpc.aio.EOF:
            return False
        self._learn(data, output)
        return True

    def _learn(self, data: bytes, output: Descriptor) -> None:
        self._tally.answers += 1
        try:
            answer: Any = GetMessageClass(output).FromString(data)
        except DecodeError:
            return self._found(f"an answer that is no {output.full_name}: {data[:200].hex()}")
        kind = answer.WhichOneof("frame") if "frame" in output.oneofs_by_name else None
        if kind == "frame_ack":
            self._answered_frames += 1
            self._acked(answer.frame_ack)
        elif kind == "heartbeat" and answer.heartbeat.ping_nonce == _NONCES + self._nonce:
            self._echoed.set()
        elif kind == "event":
            self.head = max(self.head, answer.event.seq)
            self.known.learn(answer)
        elif kind is None:
            self._answered_frames += 1
            self.known.learn(answer)
        elif kind not in ("heartbeat", "message_delta", "tool_progress", "turn_notice"):
            self.known.learn(answer)
        return None

    def _acked(self, ack: Any) -> None:
        outcome = ack.Outcome.Name(ack.outcome).removeprefix("OUTCOME_")
        self._tally.acks[str(ack.error.reason) if ack.HasField("error") else outcome] += 1
        self.closed = self.closed or ack.error.reason == "SESSION_CLOSED"
        if ack.error.reason in _FAULTY_ACKS:
            self._found(f"a frame was answered with {ack.error.reason}: {ack.error.message}")

    async def _ended(self, call: Any) -> None:
        code = await self._in_time(call.code(), "the status")
        detail = await call.debug_error_string()
        if detail.startswith(_WRITTEN_TOO_LATE):
            self._tally.statuses["ended while the client wrote"] += 1
            return
        self._tally.statuses[code.name] += 1
        if code in _UNEXPLAINED - self._explains:
            self._found(f"{code.name}: {await call.details()} {detail}")

    async def _in_time(self, awaited: Awaitable[T], what: str) -> T:
        try:
            async with asyncio.timeout(BOUND_SECONDS):
                return await awaited
        except TimeoutError:
            self._found(f"{what} did not come within {BOUND_SECONDS:g} s")
            raise Hung from None

    def _found(self, what: str) -> None:
        self._note(Finding(self.seed, self._where, what, shown(tuple(self._sent))))


class Hung(Exception):
    """The server did not answer in time; it has been told already."""
