"""What every service of this replica shares."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar

from agent_runtime import v1
from agent_runtime_server.core.errors import CallerError
from agent_runtime_server.core.principal import Principal
from agent_runtime_server.engine.hub import Hub
from agent_runtime_server.engine.reviews import Reviews
from agent_runtime_server.engine.services import Services
from agent_runtime_server.rpc.access import require
from agent_runtime_server.rpc.admission import Admission
from agent_runtime_server.rpc.own_calls import refuse_own
from agent_runtime_server.rpc.positions import LSN, as_text, echoed
from agent_runtime_server.rpc.quotas import Quotas
from agent_runtime_server.rpc.service import MAX_FRAME_BYTES, Call
from agent_runtime_server.stores.base import Histories, History

PROTOCOL_VERSION = 1
_LONGEST_RECONNECT_DELAY = 5.0  # seconds over which streams are spread that all have to come back elsewhere

T = TypeVar("T")


@dataclass(slots=True)
class Replica:
    """This process among its equals."""

    replica_id: str
    version: str
    hub: Hub
    reviews: Reviews
    services: Services
    histories: Histories
    tasks: asyncio.TaskGroup
    heartbeat_seconds: float
    client_idle_seconds: float
    max_stream_age_seconds: float = 3300
    hello_seconds: float = 10
    notices: tuple[str, ...] = ()
    forbid_self_approval: bool = False
    quotas: Quotas = field(default_factory=Quotas)
    admission: Admission = field(default_factory=Admission)
    ending: asyncio.Event = field(default_factory=asyncio.Event)
    _gone_at: float | None = None  # monotonic; when streams end because this replica shuts down
    _streams: dict[object, Callable[[], bool]] = field(default_factory=dict)

    def limits(self) -> v1.StreamLimits:
        """Return the limits and timing of a stream."""
        limits = v1.StreamLimits(max_frame_bytes=MAX_FRAME_BYTES)
        limits.heartbeat_interval.FromTimedelta(timedelta(seconds=self.heartbeat_seconds))
        limits.client_idle_timeout.FromTimedelta(timedelta(seconds=self.client_idle_seconds))
        limits.max_stream_age.FromTimedelta(timedelta(seconds=self.max_stream_age_seconds))
        return limits

    @property
    def draining(self) -> bool:
        """Whether this replica shuts down."""
        return self._gone_at is not None

    def leave(self, seconds: float) -> None:
        """Begin to shut down: take on nothing more, and tell every stream to go within so many seconds."""
        self._gone_at = time.monotonic() + seconds
        self.hub.leave()
        self.hub.say(self.farewell)
        self.reviews.changed()

    def farewell(self) -> v1.GoAway:
        """Return what one stream is told when this replica shuts down; no two come back at the same moment."""
        left = round(max(0.0, (self._gone_at or 0) - time.monotonic()), 1)
        go_away = v1.GoAway(reason=v1.GoAway.REASON_DRAINING)
        go_away.time_left.FromTimedelta(timedelta(seconds=left))
        delay = random.uniform(0, min(_LONGEST_RECONNECT_DELAY, left / 2))  # noqa: S311 - no secret
        go_away.reconnect_delay.FromTimedelta(timedelta(seconds=delay))
        return go_away

    @contextmanager
    def stream(self, half_closed: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """Count a stream while the block runs."""
        key = object()
        self._streams[key] = half_closed
        try:
            yield
        finally:
            del self._streams[key]

    @property
    def streams(self) -> int:
        """Number of open streams."""
        return len(self._streams)

    @property
    def staying(self) -> bool:
        """Whether there are streams to wait for; a client that has half-closed is done, and acts on no farewell."""
        return any(not half_closed() for half_closed in self._streams.values())

    async def behind_write(self, who: Principal) -> str:
        """Note that somebody has just changed something; returns the position behind it, empty when none is needed."""
        return as_text(await self.histories.wrote(f"{who.tenant}/{who.subject}"))

    async def wrote(self, call: Call) -> None:
        """Tell the caller of a unary RPC the position behind what it has just changed."""
        position = await self.behind_write(call.principal)
        if position:
            call.trailing[LSN] = position

    async def read(self, call: Call, ask: Callable[[History], Awaitable[T]]) -> T:
        """Read a list or a page, where it holds at least what the caller has written."""
        who = call.principal
        return await self.histories.read(f"{who.tenant}/{who.subject}", echoed(call), ask)

    def refuse_draining(self) -> None:
        """Refuse a new stream while this replica shuts down."""
        if self.draining:
            raise draining()

    @asynccontextmanager
    async def beginning(self, who: Principal, session_id: str, frame: v1.ChatRequest) -> AsyncIterator[None]:
        """Let a frame be committed in the block.

        Raises QUOTA_EXCEEDED for a message that would begin a turn, unless it was committed before.
        """
        with ExitStack() as places:
            if frame.HasField("user_message") and not frame.user_message.question_id:
                try:
                    places.enter_context(self.admission.place(who.tenant))
                    await self.quotas.turn(who)
                except CallerError:
                    if await self.services.log.frame(session_id, frame.frame_id) is None:
                        raise
            yield

    async def may_decide(self, who: Principal, decision: v1.ApprovalDecision) -> None:
        """Raise unless the caller may make this decision."""
        require(who, "ChatRequest.approval_decision")
        if self.forbid_self_approval and decision.verdict != v1.APPROVAL_VERDICT_REJECT:
            await refuse_own(self.services, who, decision.approval_id)

    def protocol_version(self, asked: int) -> int:
        """Return the behaviour version in force for a client that implements `asked`."""
        if asked < PROTOCOL_VERSION:
            raise CallerError(
                v1.ERROR_REASON_PROTOCOL_VERSION_UNSUPPORTED,
                f"protocol_version {asked} is not supported; this server speaks {PROTOCOL_VERSION}",
                metadata={"min": str(PROTOCOL_VERSION), "max": str(PROTOCOL_VERSION)},
            )
        return min(asked, PROTOCOL_VERSION)


def draining() -> CallerError:
    """Return the error of a stream that ends because its replica does."""
    return CallerError(
        v1.ERROR_REASON_SERVER_DRAINING,
        "this replica is shutting down; reconnect with the last seq",
        retry_delay=timedelta(seconds=1),
    )
