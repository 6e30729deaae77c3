"""One bidirectional stream: a single writer that pings, and a reader that notices silence."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar, cast

import grpc

from agent_runtime import v1
from agent_runtime_client.status import Problem, problem_of
from agent_runtime_client.timing import Timing

Up = TypeVar("Up", v1.ChatRequest, v1.HitlRequest)
Down = TypeVar("Down", v1.ChatResponse, v1.HitlResponse)

_MOST_EPHEMERAL: Final = 64
_CUT: Final = Problem(grpc.StatusCode.CANCELLED, "the stream was cut")


class Link(Generic[Up, Down]):
    """The stream of one RPC from its hello to its end."""

    first: Down
    """The welcome, once it came."""
    over: asyncio.Event
    """Set once nothing more comes."""

    def __init__(
        self,
        call: "grpc.aio.StreamStreamCall[Up, Down]",
        channel: grpc.aio.Channel,
        timing: Timing,
        make_ping: Callable[[], Up],
        release: Callable[[], Awaitable[object]],
    ) -> None:
        self.channel = channel
        self.over = asyncio.Event()
        self._call: grpc.aio.StreamStreamCall[Up, Down] | None = call
        self._timing = timing
        self._make_ping: Callable[[], Up] = make_ping
        self._release = release
        self._queue: deque[Up] = deque()
        self._queued = asyncio.Event()
        self._silence = timing.silence_seconds
        self._cut = False

    def expect_heartbeats(self, interval: float) -> None:
        """Allow for a server that was told to beat slowly."""
        self._silence = max(self._timing.silence_seconds, 1.5 * interval)

    def put(self, frame: Up) -> None:
        """Send `frame` after those before it."""
        self._queue.append(frame)
        self._queued.set()

    def offer(self, frame: Up) -> None:
        """Send `frame`, or drop it when the stream does not keep up."""
        if len(self._queue) < _MOST_EPHEMERAL:
            self.put(frame)

    async def write_forever(self) -> None:
        """Send what is put, and pings in between, until the stream ends."""
        try:
            while True:
                frame = await self._next_frame()
                await self._open_call().write(frame)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            # The stream is over; the reader learns how it ended.
            return
        except asyncio.CancelledError as error:
            if not self._cut:
                raise _bare(error) from None

    async def read(self) -> Down | Problem:
        """Return the next frame, or how the stream ended."""
        read = await self._read()
        if isinstance(read, Problem):
            self.over.set()
        return read

    async def _read(self) -> Down | Problem:
        try:
            # Only waiting counts as silence, not the time the application takes between two reads.
            async with asyncio.timeout(self._silence):
                frame = await self._open_call().read()
        except TimeoutError:
            return Problem(grpc.StatusCode.UNAVAILABLE, f"nothing heard for {self._silence:g} s")
        except grpc.aio.AioRpcError as error:
            return problem_of(error)
        except asyncio.InvalidStateError:
            return _CUT
        except asyncio.CancelledError as error:
            # gRPC raises this too when the call was cancelled, by `cut` or by a fault of its own.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise _bare(error) from None
            return _CUT
        if isinstance(frame, type(grpc.aio.EOF)):
            return Problem(grpc.StatusCode.OK, "the server ended the stream")
        return cast("Down", frame)

    def cut(self) -> None:
        """End the stream from this side; whoever reads it is told."""
        self._cut = True
        if self._call is not None:
            self._call.cancel()
        self._queued.set()

    async def aclose(self) -> None:
        """End the stream and give its channel back."""
        self.cut()
        self._call = None  # the connection lasts as long as the call, and this object may have to wait for the garbage
        await self._release()

    def _open_call(self) -> "grpc.aio.StreamStreamCall[Up, Down]":
        if self._call is None or self._cut:
            raise asyncio.InvalidStateError
        return self._call

    async def _next_frame(self) -> Up:
        while not self._queue:
            self._queued.clear()
            try:
                async with asyncio.timeout(self._timing.ping_seconds):
                    await self._queued.wait()
            except TimeoutError:
                return self._make_ping()
            if self._cut:
                raise asyncio.InvalidStateError
        return self._queue.popleft()


def _bare(error: asyncio.CancelledError) -> asyncio.CancelledError:
    """Return the error without its traceback, whose frames would keep the call, and with it the connection."""
    return error.with_traceback(None)
