"""A replica without its gRPC edge: sessions, the hub and its runners over real stores and a scripted model."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from agent_runtime import v1
from agent_runtime_server.agents.registry import builtin
from agent_runtime_server.core.clock import after, now
from agent_runtime_server.core.ids import new_id
from agent_runtime_server.engine import frames, intake, lifecycle
from agent_runtime_server.engine.asking import Performer
from agent_runtime_server.engine.feed import Item, Wanted
from agent_runtime_server.engine.hub import Hub, Timing
from agent_runtime_server.engine.ledger import DayBudget, Ledger
from agent_runtime_server.engine.limits import Limits
from agent_runtime_server.engine.relay import Alone
from agent_runtime_server.engine.services import Services
from agent_runtime_server.engine.session import Committed, Session
from agent_runtime_server.stores.base import Bus, StoredEvent
from agent_runtime_server.stores.postgres.clock import DatabaseClock
from agent_runtime_server.stores.postgres.usage import PostgresUsage
from agent_runtime_server.tools import catalogue
from enginekit.model import Scripted
from enginekit.stores import OWNER, TENANT, Stores, opened

OFTEN = Timing(sweep_seconds=0.01, lease_seconds=0.03)
RARELY = Timing(sweep_seconds=1000, lease_seconds=3000)
TOOLS = tuple(v1.ToolSpec(name=name) for name in catalogue.STANDARD)

_numbers = itertools.count(1)


@dataclass
class Clock:
    """The wall time, moved by what a test says."""

    ahead: float = 0

    def __call__(self) -> Timestamp:
        """Return the time."""
        return after(now(), self.ahead)


@dataclass
class Replica:
    """One replica, and how a client speaks to it."""

    stores: Stores
    services: Services
    model: Scripted
    clock: Clock
    hub: Hub
    started: list[Session] = field(default_factory=list)

    async def new_session(self, agent_id: str = "coder", session_id: str = "") -> Session:
        """Make a session, attach an executor with the standard tools, and return it as the hub knows it."""
        made, _ = await lifecycle.create(self.services, wish(session_id=session_id, agent_id=agent_id))
        session = await self.session(made.session_id)
        await session.commit(lambda draft: frames.attach(draft, sender(""), TOOLS))
        return session

    async def session(self, session_id: str) -> Session:
        """Return a session as the hub knows it."""
        return await self.hub.session(session_id, TENANT)

    def alone(self, session_id: str) -> Session:
        """Return a session that nobody runs: `started` tells when somebody should."""
        return Session(session_id, TENANT, self.services, self.started.append)

    async def submit(self, session: Session, frame_id: str = "", **frame: Any) -> Committed:
        """Submit one durable frame."""
        request = v1.ChatRequest(frame_id=frame_id or f"auto-{next(_numbers)}", **frame)
        return await intake.submit(session, self.stores.approvals, sender(request.frame_id), request)

    async def say(self, session: Session, text: str = "do it", frame_id: str = "") -> Committed:
        """Submit a user's message."""
        return await self.submit(session, frame_id, user_message=v1.UserMessage(parts=[v1.Part(text=text)]))

    async def result(self, session: Session, call_id: str) -> Committed:
        """Submit the result of a call."""
        result = v1.ToolResult(call_id=call_id, status=v1.ToolResult.STATUS_SUCCEEDED)
        return await self.submit(session, tool_result=result)


@asynccontextmanager
async def replica(
    url: str,
    *,
    limits: Limits | None = None,
    timing: Timing = RARELY,
    lease: timedelta = timedelta(seconds=10),
    runs: bool = True,
    machine: Callable[[], int] | None = None,
    bus: Bus | None = None,
    day: DayBudget | None = None,
) -> AsyncIterator[Replica]:
    """Open one more replica; one that does not run has nobody who takes its turns on.

    With the clock of a `machine` it goes by the database's time, as a server does. With a budget of a `day` each user
    has that much.
    """
    async with opened(url, lease) as stores, asyncio.TaskGroup() as group:
        clock, model = Clock(), Scripted()
        ledger = Ledger(PostgresUsage(stores.database), date.today, day or DayBudget())
        services = Services(
            log=stores.log,
            approvals=stores.approvals,
            agents=builtin(),
            limits=limits or Limits(),
            clock=clock if machine is None else await _database_clock(stores, machine),
            new_id=new_id,
            committed=lambda _events: None,
            worked=ledger.count,
            bus=bus or Alone(),
        )
        performer = Performer(model, services, 0, ledger=None if day is None else ledger)
        hub = Hub(performer, stores.leases, stores.parked, timing)
        running = group.create_task(hub.run()) if runs else None
        yield Replica(stores, services, model, clock, hub)
        if running is not None:
            running.cancel()
            await asyncio.wait({running})


async def _database_clock(stores: Stores, machine: Callable[[], int]) -> DatabaseClock:
    clock = DatabaseClock(stores.database, machine)
    await clock.look()
    return clock


def sender(frame_id: str, client_id: str = "c1") -> frames.Sender:
    """Return the user at a client."""
    return frames.Sender(OWNER, client_id, frame_id)


def wish(**fields: Any) -> lifecycle.Wish:
    """Return what a caller wants of a new session."""
    plain: dict[str, Any] = {
        "owner": OWNER, "tenant": TENANT, "request_id": "", "session_id": "", "agent_id": "", "title": "", "labels": {},
    }  # fmt: skip
    return lifecycle.Wish(**plain | fields)


async def log(session: Session) -> list[v1.SessionEvent]:
    """Return a session's committed events."""
    events: list[v1.SessionEvent] = []
    while page := await session._services.log.events(TENANT, session.session_id, events[-1].seq if events else 0, 1000):
        events += [v1.SessionEvent.FromString(event.payload) for event in page]
    return events


def kinds(events: Sequence[v1.SessionEvent]) -> list[str]:
    """Return the names of the events' payloads."""
    return [event.WhichOneof("payload") or "" for event in events]


async def until(session: Session, kind: str, count: int = 1, *, after_seq: int = 0) -> v1.SessionEvent:
    """Follow a session until it has this many events of a kind behind a seq, and return the last one."""
    feed = session.audience.follow(Wanted(after_seq))
    try:
        async with asyncio.timeout(20):
            async for item in feed:
                event = as_event(item)
                if event is not None and event.HasField(kind):  # type: ignore[arg-type]
                    count -= 1
                    if not count:
                        return event
    finally:
        session.audience.leave(feed)
    raise AssertionError("a feed that nobody ends does not end")


def as_event(item: Item) -> v1.SessionEvent | None:
    """Return the event an item of a feed is, if it is one."""
    return v1.SessionEvent.FromString(item.payload) if isinstance(item, StoredEvent) else None
