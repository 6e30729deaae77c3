"""The stores of one replica, and what is put into them."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import asyncpg

from agent_runtime import v1
from agent_runtime_server.core.clock import now
from agent_runtime_server.core.observe import Batch, Nobody
from agent_runtime_server.stores.base import (
    Append,
    Appended,
    ApprovalRow,
    Frame,
    LeaseAction,
    NewSession,
    StoredEvent,
)
from agent_runtime_server.stores.postgres.approvals import PostgresApprovals
from agent_runtime_server.stores.postgres.database import Database, open_database
from agent_runtime_server.stores.postgres.leases import PostgresLeases, Presence, announce
from agent_runtime_server.stores.postgres.log import PostgresLog
from agent_runtime_server.stores.postgres.parked import PostgresParkedTurns
from agent_runtime_server.stores.postgres.queue import Bounds
from agent_runtime_server.stores.postgres.retention import PostgresRetention
from agent_runtime_server.stores.postgres.writer import Writer
from agent_runtime_server.stores.upkeep import Taken

TENANT = "tenant-1"
OWNER = v1.Actor(kind=v1.ACTOR_KIND_USER, subject="owner")


@dataclass
class Batches(Nobody):
    """Counts what the writer commits."""

    seen: list[Batch] = field(default_factory=list)

    @property
    def sizes(self) -> list[int]:
        """The number of appends of each batch."""
        return [batch.appends for batch in self.seen]

    def batch_committed(self, batch: Batch) -> None:
        """Note a batch."""
        self.seen.append(batch)


@dataclass
class Stores:
    """What one replica keeps its sessions in."""

    database: Database
    commits: Database
    presence: Presence
    writer: Writer
    log: PostgresLog
    approvals: PostgresApprovals
    leases: PostgresLeases
    parked: PostgresParkedTurns
    retention: PostgresRetention
    batches: Batches
    writing: "asyncio.Task[None]"

    async def new_session(self, session_id: str, **fields: Any) -> None:
        """Make a session that has only begun."""
        _, made = await self.log.create(beginning(session_id, **fields))
        assert made

    async def append(self, session_id: str, head: int, count: int = 1, **fields: Any) -> Appended:
        """Append events behind `head`."""
        return await self.log.append(appending(session_id, head, count, **fields))

    async def head(self, session_id: str) -> int:
        """Return the highest seq."""
        row = await self.log.row(TENANT, session_id)
        assert row is not None
        return row.session.head_seq


@asynccontextmanager
async def opened(
    url: str,
    lease: timedelta = timedelta(seconds=10),
    *,
    bounds: Bounds | None = None,
    commits_url: str = "",
) -> AsyncIterator[Stores]:
    """Open the stores of one more replica; it may commit by another way than it reads by."""
    async with (
        open_database(url) as database,
        open_database(commits_url or url, name="commits", most_connections=1, idle_seconds=0) as commits,
        announce(url) as presence,
        asyncio.TaskGroup() as group,
    ):
        replica, batches = presence.replica, Batches()
        writer = Writer(commits, replica, lease, batches, bounds)
        writing = group.create_task(writer.run())
        log, approvals = PostgresLog(database, writer, replica), PostgresApprovals(database)
        leases = PostgresLeases(database, presence, lease)
        parked = PostgresParkedTurns(database)
        retention = PostgresRetention(database)
        yield Stores(database, commits, presence, writer, log, approvals, leases, parked, retention, batches, writing)
        writing.cancel()


@asynccontextmanager
async def locked(url: str, session_id: str) -> AsyncIterator[None]:
    """Hold a session's row while the block runs, so that appends to it wait in Postgres."""
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            await connection.execute("SELECT 1 FROM sessions WHERE session_id = $1 FOR UPDATE", session_id)
            yield
    finally:
        await connection.close()


async def until_one_waits(url: str) -> int:
    """Return the process id of the first server process that waits for a lock."""
    connection = await asyncpg.connect(url)
    try:
        async with asyncio.timeout(10):
            while True:
                found: int | None = await connection.fetchval(
                    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
                )
                if found is not None:
                    return found
    finally:
        await connection.close()


def beginning(
    session_id: str,
    *,
    tenant: str = TENANT,
    request_id: str = "",
    title: str = "",
    labels: Mapping[str, str] | None = None,
) -> NewSession:
    """Return a session to be made."""
    session = v1.Session(
        session_id=session_id, state=v1.SESSION_STATE_IDLE, title=title, labels=labels, head_seq=1, create_time=now()
    )
    session.owner.CopyFrom(OWNER)
    return NewSession(session, tenant, request_id, [event(session_id, 1)])


def event(session_id: str, seq: int, payload: bytes | None = None) -> StoredEvent:
    """Return an event whose payload says where it stands."""
    return StoredEvent(seq, 11, f"{session_id} {seq}".encode() if payload is None else payload)


def appending(
    session_id: str,
    head: int,
    count: int = 1,
    *,
    epoch: int | None = None,
    lease: LeaseAction = LeaseAction.RELEASE,
    runnable: bool = False,
    deadline: datetime | None = None,
    state: "v1.SessionState.ValueType" = v1.SESSION_STATE_ACTIVE,
    frame: Frame | None = None,
    approvals: tuple[ApprovalRow, ...] = (),
    events: list[StoredEvent] | None = None,
) -> Append:
    """Return an append of `count` events behind `head`."""
    made = [event(session_id, head + number) for number in range(1, count + 1)] if events is None else events
    return Append(
        session_id=session_id,
        head=head,
        epoch=epoch,
        events=made,
        summary=v1.Session(session_id=session_id, state=state, head_seq=head + len(made)),
        runnable=runnable,
        next_deadline=deadline,
        lease=lease,
        frame=frame,
        frame_seq=head + 1 if frame is not None else 0,
        approvals=approvals,
    )


def approval_row(
    approval_id: str,
    session_id: str,
    before: int = 0,
    *,
    state: "v1.ApprovalState.ValueType" = v1.APPROVAL_STATE_PENDING,
    risk: "v1.RiskLevel.ValueType" = v1.RISK_LEVEL_MEDIUM,
    agent_id: str = "coder",
) -> ApprovalRow:
    """Return the row of an approval at the revision behind `before`."""
    call = v1.ToolCall(call_id=f"call-{approval_id}", risk=risk)
    approval = v1.Approval(
        approval_id=approval_id, session_id=session_id, revision=before + 1, state=state, tool_call=call
    )
    return ApprovalRow(before, agent_id, approval)


async def taken(stores: Stores) -> Sequence[Taken]:
    """Take what is runnable, as soon as there is any: Postgres lets go of a dead replica's lock when it notices."""
    async with asyncio.timeout(20):
        while not (found := await stores.leases.take_runnable(10)):  # noqa: ASYNC110 - Postgres tells nobody
            await asyncio.sleep(0.01)
    return found
