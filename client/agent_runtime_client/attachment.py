"""Staying attached: one stream after the other, with nothing lost between them."""

import asyncio
from contextlib import AsyncExitStack, suppress
from typing import Final, Generic, Protocol

import grpc
from google.protobuf.duration_pb2 import Duration

from agent_runtime import v1
from agent_runtime_client.channels import Channels
from agent_runtime_client.errors import ChatClosed, ClientError, Rejected
from agent_runtime_client.link import Down, Link, Up
from agent_runtime_client.outbox import Outbox
from agent_runtime_client.patience import Patience, is_quota
from agent_runtime_client.position import Position
from agent_runtime_client.reconnect import GiveUp, Refresh, Restart, Retry, judge
from agent_runtime_client.status import Problem
from agent_runtime_client.tasks import Tasks
from agent_runtime_client.timing import Backoff, Timing

_DEFAULT_MAX_FRAME: Final = 1_572_864
_PATIENCE_SECONDS: Final = 1.0


class Side(Protocol[Up, Down]):
    """What differs between the chat and the review."""

    async def start(self, channel: grpc.aio.Channel) -> "grpc.aio.StreamStreamCall[Up, Down]":
        """Begin the RPC."""
        ...

    def hello(self) -> Up:
        """Return the first frame, for where the reader stands now."""
        ...

    def ping(self) -> Up:
        """Return a keepalive."""
        ...

    async def welcomed(self, frame: Down) -> None:
        """Take the first frame of a new stream."""
        ...

    async def received(self, frame: Down) -> Problem | None:
        """Take one more frame; a problem ends the stream."""
        ...

    def event_of(self, frame: Down) -> v1.SessionEvent | None:
        """Return the event in a frame, if it holds one."""
        ...

    async def restarted(self, after_seq: int) -> None:
        """Go back to reading after `after_seq`, because what was before is gone."""
        ...

    async def disconnected(self, reason: str, retry_in: float) -> None:
        """Tell that the stream is down for a while."""
        ...

    async def held_up(self, reason: str) -> None:
        """Tell that the server cannot take frames now; they are sent again until it can."""
        ...


class Attachment(Generic[Up, Down]):
    """Keeps a stream open for its side, and every durable frame until it is confirmed."""

    def __init__(
        self, channels: Channels, side: Side[Up, Down], timing: Timing, tasks: Tasks, position: Position
    ) -> None:
        self._channels = channels
        self._side: Side[Up, Down] = side
        self._timing = timing
        self._tasks = tasks
        self._position = position
        self._backoff = Backoff(timing)
        self._refreshed = False
        self._outbox: Outbox[Up] = Outbox()
        self._patience = Patience(timing)
        self._held: set[str] = set()  # frames to be sent once their pause is over
        self._pauses: dict[str, asyncio.Task[None]] = {}  # by the kind of frames that wait, all of them under ""
        self._told = False  # that frames are held up
        self._waiters: dict[str, asyncio.Future[v1.FrameAck]] = {}
        self._link: Link[Up, Down] | None = None
        self._max_frame = _DEFAULT_MAX_FRAME
        self._ended: ClientError | None = None

    async def submit(self, frame: Up) -> v1.FrameAck:
        """Send a durable frame, over as many streams as it takes, and return its ack.

        Being cancelled only ends the wait: the frame may be committed all the same.
        """
        if self._ended is not None:
            raise self._ended
        self._check_size(frame)
        waiter: asyncio.Future[v1.FrameAck] = asyncio.get_running_loop().create_future()
        self._waiters[frame.frame_id] = waiter
        self._outbox.add(frame)
        if self._waits(frame):
            self._held.add(frame.frame_id)
        elif self._link is not None:
            self._link.put(frame)
        return await waiter

    def offer(self, frame: Up) -> None:
        """Send an ephemeral frame if a stream is up and keeps up."""
        if self._link is not None:
            self._link.offer(frame)

    def end(self, error: ClientError | None = None) -> None:
        """Fail what still waits for an ack."""
        self._ended = self._ended or error or ChatClosed("the stream was closed by this side")
        for waiter in self._waiters.values():
            if not waiter.done():
                waiter.set_exception(self._ended)
        self._waiters.clear()

    @property
    def connected(self) -> bool:
        """Whether a stream is up now."""
        return self._link is not None

    async def run(self) -> ClientError:
        """Stay attached until it makes no sense any more, and return why."""
        found: Link[Up, Down] | Problem = await self._dial()
        while True:
            if isinstance(found, Link):
                found = await self._serve(found)
                continue
            error = await self._recover(found)
            if error is not None:
                return error
            found = await self._dial()

    async def _dial(self) -> Link[Up, Down] | Problem:
        """Open a stream; at once on another connection when the first one leads to a server that is about to go."""
        found = await self._dial_once()
        return await self._dial_once() if isinstance(found, Problem) and found.leaves else found

    async def _dial_once(self) -> Link[Up, Down] | Problem:
        """Open a stream on a connection and wait for its welcome."""
        stack = AsyncExitStack()
        channel = await stack.enter_async_context(self._channels.lend())
        link = Link(await self._side.start(channel), channel, self._timing, self._side.ping, stack.aclose)
        try:
            link.put(self._side.hello())
            self._tasks.start(link.write_forever())
            first = await link.read()
            if not isinstance(first, Problem) and first.WhichOneof("frame") != "welcome":
                first = Problem(grpc.StatusCode.INTERNAL, "the server's first frame was no welcome")
            if isinstance(first, Problem):
                await self._drop(link)
                return first
            link.first = first
        except BaseException:
            await self._drop(link)
            raise
        return link

    async def _serve(self, link: Link[Up, Down]) -> Link[Up, Down] | Problem:
        """Use `link` until it ends; return its successor, or how it ended."""
        heir: asyncio.Task[Link[Up, Down] | Problem] | None = None
        try:
            await self._begin(link)
            while True:
                frame = await link.read()
                if isinstance(frame, Problem):
                    if heir is None:
                        return frame
                    found, heir = await self._inherit(heir, frame), None
                    return found
                if (kind := frame.WhichOneof("frame")) == "go_away":
                    heir = heir or self._tasks.start(self._succeed(link, frame.go_away))
                elif (problem := await self._handle(frame, kind)) is not None:
                    return problem
        finally:
            if self._link is link:
                self._link = None
            await self._drop(link)
            await self._disown(heir)

    async def _begin(self, link: Link[Up, Down]) -> None:
        first = link.first
        limits = first.welcome.limits
        self._max_frame = limits.max_frame_bytes or _DEFAULT_MAX_FRAME
        link.expect_heartbeats(seconds_of(limits.heartbeat_interval))
        await self._side.welcomed(first)
        self._held.clear()
        for frame in self._outbox.pending():
            link.put(frame)
        self._link = link

    async def _handle(self, frame: Down, kind: str | None) -> Problem | None:
        if kind == "frame_ack":
            self._position.note(frame.frame_ack.lsn)
            await self._acked(frame.frame_ack)
            return None
        event = self._side.event_of(frame)
        # An event proves that the frame which made it was committed, also when the ack was lost.
        if event is not None and (ack := self._outbox.on_event(event)) is not None:
            self._settle(ack)
        if kind == "caught_up":
            self._backoff.reset()
            self._refreshed = False
        return await self._side.received(frame)

    async def _acked(self, ack: v1.FrameAck) -> None:
        """Settle a frame, or keep it for another try when the server cannot take it now."""
        if not self._outbox.holds(ack.frame_id):
            return
        delay = self._patience.delay(ack)
        if delay is None:
            self._outbox.on_ack(ack)
            self._settle(ack)
            return
        self._held.add(ack.frame_id)
        # A quota holds up what it counts, and that in its order; whatever is away holds up all.
        kind = self._outbox.kind(ack.frame_id) if is_quota(ack.error) else ""
        if kind not in self._pauses:
            self._pauses[kind] = self._tasks.start(self._resume(kind, delay))
        if not self._told:
            self._told = True
            await self._side.held_up(ack.error.message or ack.error.reason)

    def _waits(self, frame: Up) -> bool:
        return "" in self._pauses or frame.WhichOneof("frame") in self._pauses

    async def _resume(self, kind: str, delay: float) -> None:
        """Wait, then send what was held up, in the order it was given."""
        await asyncio.sleep(delay)
        del self._pauses[kind]
        for frame in self._outbox.pending():
            if frame.frame_id in self._held and not self._waits(frame):
                self._held.discard(frame.frame_id)
                if self._link is not None:
                    self._link.put(frame)

    async def _succeed(self, old: Link[Up, Down], notice: v1.GoAway) -> Link[Up, Down] | Problem:
        """Open the next stream while the old one still works, then cut the old one."""
        self._channels.distrust(old.channel)
        # Delays are for who still has a stream: the first one ends when the old stream does.
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds_of(notice.reconnect_delay)):
                await old.over.wait()
        while True:
            found = await self._dial()
            if isinstance(found, Link):
                old.cut()
                return found
            verdict = judge(found, refreshed=self._refreshed)
            if not isinstance(verdict, Retry):
                return found
            await asyncio.sleep(self._backoff.next_delay(verdict.asked_delay))

    async def _inherit(
        self, heir: "asyncio.Task[Link[Up, Down] | Problem]", problem: Problem
    ) -> Link[Up, Down] | Problem:
        """Wait for the next stream; with one on its way the end of this one is expected, however it looks."""
        await asyncio.wait({heir}, timeout=_PATIENCE_SECONDS)
        if not heir.done():
            await self._side.disconnected(problem.describe(), 0)
        return await heir

    async def _recover(self, problem: Problem) -> ClientError | None:
        """Wait as the end of a stream asks for, or return the error to end with."""
        verdict = judge(problem, refreshed=self._refreshed)
        if isinstance(verdict, GiveUp):
            return verdict.error
        if isinstance(verdict, Restart):
            await self._side.restarted(verdict.after_seq)
        self._refreshed = self._refreshed or isinstance(verdict, Refresh)
        delay = self._backoff.next_delay(verdict.asked_delay if isinstance(verdict, Retry) else None)
        if not isinstance(verdict, Restart):
            await self._side.disconnected(problem.describe(), delay)
        await asyncio.sleep(delay)
        return None

    async def _drop(self, link: Link[Up, Down]) -> None:
        # The next stream gets a connection of its own: this one failed, or leads to a server that drains.
        self._channels.distrust(link.channel)
        await link.aclose()

    async def _disown(self, heir: "asyncio.Task[Link[Up, Down] | Problem] | None") -> None:
        if heir is None or heir.cancel() or heir.cancelled():
            return
        if isinstance(found := heir.result(), Link):
            await self._drop(found)

    def _settle(self, ack: v1.FrameAck) -> None:
        self._patience.end(ack.frame_id)
        self._told = False
        waiter = self._waiters.pop(ack.frame_id, None)
        if waiter is None or waiter.done():
            return
        if ack.outcome == v1.FrameAck.OUTCOME_REJECTED:
            waiter.set_exception(Rejected(ack.error))
        else:
            waiter.set_result(ack)

    def _check_size(self, frame: Up) -> None:
        # Sent all the same it would end the stream, and again after each reconnect.
        size = frame.ByteSize()
        if size > self._max_frame:
            message = f"the frame has {size} bytes; the server takes {self._max_frame}"
            raise Rejected(v1.Error(code=8, reason="FRAME_TOO_LARGE", message=message))


def seconds_of(duration: Duration) -> float:
    """Return a duration in seconds."""
    return duration.seconds + duration.nanos / 1e9
