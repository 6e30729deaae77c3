"""Feeds of events that reconnect by themselves."""

import asyncio
from collections.abc import AsyncIterator

import grpc

from agent_runtime import v1
from agent_runtime.v1 import event_service_pb2_grpc
from agent_runtime_client.channels import Channels
from agent_runtime_client.credentials import Metadata
from agent_runtime_client.cursor import Cursor, Place
from agent_runtime_client.reconnect import GiveUp, Refresh, Restart, Retry, judge
from agent_runtime_client.status import Problem, problem_of
from agent_runtime_client.timing import Backoff, Timing


async def follow(
    channels: Channels,
    request: v1.SubscribeEventsRequest,
    metadata: Metadata,
    timing: Timing,
) -> AsyncIterator[v1.SubscribeEventsResponse]:
    """Yield the feed's frames, each event once, over as many streams as it takes."""
    feed = _Feed(request, timing)
    while True:
        async with channels.lend() as channel:
            call = event_service_pb2_grpc.EventServiceStub(channel).SubscribeEvents(
                feed.request, metadata=await metadata()
            )
            try:
                while not isinstance(frame := await feed.read(call), Problem):
                    if feed.passes(frame):
                        yield frame
                    # Only now: a resume point is the place after what the caller has taken.
                    feed.took(frame)
            finally:
                call.cancel()
                channels.distrust(channel)
        await asyncio.sleep(feed.recover(frame))


class _Feed:
    """Where one feed stands."""

    def __init__(self, request: v1.SubscribeEventsRequest, timing: Timing) -> None:
        self.request = request
        self._timing = timing
        self._backoff = Backoff(timing)
        self._cursor = Cursor(request.after_seq)
        self._refreshed = False

    async def read(
        self, call: "grpc.aio.UnaryStreamCall[v1.SubscribeEventsRequest, v1.SubscribeEventsResponse]"
    ) -> v1.SubscribeEventsResponse | Problem:
        """Return the next frame, or how the stream ended."""
        try:
            async with asyncio.timeout(self._timing.silence_seconds):
                frame = await call.read()
        except TimeoutError:
            text = f"nothing heard for {self._timing.silence_seconds:g} s"
            return Problem(grpc.StatusCode.UNAVAILABLE, text)
        except grpc.aio.AioRpcError as error:
            return problem_of(error)
        if not isinstance(frame, v1.SubscribeEventsResponse):
            return Problem(grpc.StatusCode.OK, "the server ended the feed")
        if frame.WhichOneof("frame") == "go_away":
            return Problem(grpc.StatusCode.UNAVAILABLE, "the server asks for a reconnect")
        return frame

    def passes(self, frame: v1.SubscribeEventsResponse) -> bool:
        """Say whether the caller has not seen this frame yet."""
        single = bool(self.request.session_id) and frame.WhichOneof("frame") == "event"
        return not single or self._cursor.step(frame.event.seq) is not Place.KNOWN

    def took(self, frame: v1.SubscribeEventsResponse) -> None:
        """Move the resume point behind `frame`."""
        kind = frame.WhichOneof("frame")
        if kind == "caught_up":
            self._backoff.reset()
            self._refreshed = False
        if frame.resume_token:
            self.request.resume_token = frame.resume_token
        if self.request.session_id and kind == "event":
            self._cursor.last = max(self._cursor.last, frame.event.seq)
            self.request.after_seq = self._cursor.last

    def recover(self, problem: Problem) -> float:
        """Return the delay before the next stream, or raise why there is none."""
        verdict = judge(problem, refreshed=self._refreshed)
        if isinstance(verdict, GiveUp):
            raise verdict.error
        if isinstance(verdict, Restart):
            self._cursor = Cursor(verdict.after_seq)
            self.request.after_seq = verdict.after_seq
            self.request.resume_token = verdict.resume_token
        self._refreshed = self._refreshed or isinstance(verdict, Refresh)
        return self._backoff.next_delay(verdict.asked_delay if isinstance(verdict, Retry) else None)
