"""Streams frame by frame: what was received is kept, and tests wait for what they expect."""

import asyncio
import itertools
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar

import grpc.aio

from agent_runtime import v1

_PATIENCE: Final = 30

Up = TypeVar("Up", v1.ChatRequest, v1.HitlRequest)
Down = TypeVar("Down", v1.ChatResponse, v1.HitlResponse)
Found = TypeVar("Found")


class NeverCame(AssertionError):
    """What a test waited for did not come; the text has what came instead."""


class Stream(Generic[Up, Down]):
    """One bidirectional stream; every received frame stays in `frames`."""

    def __init__(self, call: Any) -> None:
        self.call = call
        self.frames: list[Down] = []
        self.error: grpc.aio.AioRpcError | None = None
        self.ended = False
        self._changed = asyncio.Condition()
        self._reader: asyncio.Task[None] | None = None
        self._ids = (f"{id(self):x}-{number}" for number in itertools.count())
        self._first: Up | None = None

    def begin(self, first: Up) -> None:
        """Send this frame when the stream is entered."""
        self._first = first

    async def __aenter__(self) -> Self:
        self._reader = asyncio.get_running_loop().create_task(self._read())
        if self._first is not None:
            with suppress(grpc.aio.AioRpcError):  # the stream may be refused already; reading says how
                await self.call.write(self._first)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.call.cancel()
        if self._reader is not None:
            await asyncio.wait({self._reader})

    async def _read(self) -> None:
        try:
            while (frame := await self.call.read()) is not grpc.aio.EOF:
                await self._note(frame)
            self.error = await _problem(self.call)
        except grpc.aio.AioRpcError as error:
            self.error = error
        except asyncio.CancelledError:
            pass  # this side cancelled the call
        finally:
            self.ended = True
            async with self._changed:
                self._changed.notify_all()

    async def _note(self, frame: Down) -> None:
        self.frames.append(frame)
        async with self._changed:
            self._changed.notify_all()

    def new_id(self) -> str:
        """Return a frame id that no other frame has."""
        return next(self._ids)

    async def write(self, frame: Up) -> None:
        """Send a frame as it is."""
        await self.call.write(frame)

    async def done_writing(self) -> None:
        """Half-close."""
        await self.call.done_writing()

    async def until(self, find: Callable[[], Found | None], what: str = "it") -> Found:
        """Wait until `find` returns something."""
        try:
            async with asyncio.timeout(_PATIENCE), self._changed:
                while (found := find()) is None:
                    if self.ended:
                        break
                    await self._changed.wait()
        except TimeoutError:
            found = None
        if found is None:
            raise NeverCame(f"{what} never came; {self._story()}")
        return found

    async def end(self) -> grpc.aio.AioRpcError | None:
        """Wait until the server ends the stream; returns None when it ended well."""
        await self.until(lambda: self.ended or None, "the end of the stream")
        return self.error

    async def frame(self, kind: str, number: int = 0) -> Any:
        """Wait for the payload of the `number`-th frame of a kind."""
        return await self.until(lambda: _at(self.all(kind), number), f"{kind} {number}")

    def all(self, kind: str) -> list[Any]:
        """Return the payloads of all frames of a kind that have come."""
        return [getattr(frame, kind) for frame in self.frames if frame.WhichOneof("frame") == kind]

    async def ack(self, frame_id: str, number: int = 0) -> v1.FrameAck:
        """Wait for the answer to a frame."""

        def find() -> v1.FrameAck | None:
            return _at([ack for ack in self.all("frame_ack") if ack.frame_id == frame_id], number)

        return await self.until(find, f"the ack of {frame_id}")

    def _story(self) -> str:
        status = f"ended with {self.error.code()}: {self.error.details()}" if self.error else f"ended: {self.ended}"
        return "\n".join([status, *(str(frame) for frame in self.frames[-12:])])


class ChatStream(Stream[v1.ChatRequest, v1.ChatResponse]):
    """A chat."""

    @property
    def events(self) -> list[v1.SessionEvent]:
        """The events that have come."""
        return self.all("event")

    def kinds(self) -> list[str]:
        """Return the kinds of the events that have come."""
        return [event.WhichOneof("payload") or "" for event in self.events]

    async def event(self, kind: str, number: int = 0) -> v1.SessionEvent:
        """Wait for the `number`-th event of a kind."""

        def find() -> v1.SessionEvent | None:
            return _at([event for event in self.events if event.WhichOneof("payload") == kind], number)

        return await self.until(find, f"event {kind} {number}")

    async def submit(self, *, frame_id: str = "", **frame: Any) -> v1.FrameAck:
        """Send a durable frame and return its ack."""
        frame_id = frame_id or self.new_id()
        known = sum(ack.frame_id == frame_id for ack in self.all("frame_ack"))
        await self.write(v1.ChatRequest(frame_id=frame_id, **frame))
        return await self.ack(frame_id, known)

    async def say(self, text: str, **message: Any) -> v1.FrameAck:
        """Send a user message."""
        return await self.submit(user_message=v1.UserMessage(parts=[v1.Part(text=text)], **message))

    async def result(self, call_id: str, text: str = "done", **result: Any) -> v1.FrameAck:
        """Answer a call; with success unless `result` says otherwise."""
        fields: dict[str, Any] = {"status": v1.ToolResult.STATUS_SUCCEEDED, "content": [v1.Part(text=text)]} | result
        return await self.submit(tool_result=v1.ToolResult(call_id=call_id, **fields))

    async def calls(self, count: int) -> list[v1.ToolCall]:
        """Wait for so many dispatches and return their calls."""
        last = await self.event("tool_call_dispatched", count - 1)
        dispatched = (event for event in self.events if event.HasField("tool_call_dispatched"))
        return [event.tool_call_dispatched.tool_call for event in dispatched if event.seq <= last.seq]

    async def finished(self, number: int = 0) -> v1.TurnFinished:
        """Wait for the end of the `number`-th turn."""
        return (await self.event("turn_finished", number)).turn_finished

    async def caught_up(self) -> v1.CaughtUp:
        """Wait for the end of the replay."""
        return await self.frame("caught_up")  # type: ignore[no-any-return] # the frame's field


class HitlStream(Stream[v1.HitlRequest, v1.HitlResponse]):
    """A reviewer's stream."""

    @property
    def reviewer(self) -> str:
        """Who the server thinks the reviewer is."""
        return str(self.all("welcome")[0].reviewer.subject)

    async def approval(self, session_id: str, *, revision: int = 1) -> v1.Approval:
        """Wait for an approval of a session, at this revision or a later one."""

        def find() -> v1.Approval | None:
            fitting = (one for one in self.all("approval") if one.session_id == session_id)
            return next((one for one in fitting if one.revision >= revision), None)

        return await self.until(find, f"an approval of {session_id} at revision {revision}")

    async def submit(self, *, frame_id: str = "", **frame: Any) -> v1.FrameAck:
        """Send a durable frame and return its ack."""
        frame_id = frame_id or self.new_id()
        known = sum(ack.frame_id == frame_id for ack in self.all("frame_ack"))
        await self.write(v1.HitlRequest(frame_id=frame_id, **frame))
        return await self.ack(frame_id, known)


def decision(
    approval: v1.Approval, verdict: "v1.ApprovalVerdict.ValueType" = v1.APPROVAL_VERDICT_APPROVE, **fields: Any
) -> v1.ApprovalDecision:
    """Return a decision on an approval as it was seen."""
    return v1.ApprovalDecision(
        approval_id=approval.approval_id,
        expected_revision=approval.revision,
        arguments_sha256=approval.tool_call.arguments_sha256,
        verdict=verdict,
        **fields,
    )


async def _problem(call: Any) -> grpc.aio.AioRpcError | None:
    """Return the status of an ended call as an error, None when it is OK."""
    code = await call.code()
    if code == grpc.StatusCode.OK:
        return None
    return grpc.aio.AioRpcError(
        code, await call.initial_metadata(), await call.trailing_metadata(), await call.details()
    )


def _at(found: "list[Found]", number: int) -> Found | None:
    return found[number] if number < len(found) else None


async def refusal(opened: Callable[[], Stream[Any, Any]]) -> grpc.aio.AioRpcError:
    """Return the error of a stream that is refused at once.

    A write that races with the refusal makes gRPC forget it and say INTERNAL: then another stream is opened.
    """
    for _ in range(20):
        async with opened() as stream:
            error = await stream.end()
        assert error is not None, "it was not refused"
        if error.code() is not grpc.StatusCode.INTERNAL:
            return error
    raise AssertionError("it was never refused with more than INTERNAL")
