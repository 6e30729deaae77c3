"""Where lists and pages are read: on the replicas in turn as far as they are fresh enough, else on the primary."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final, TypeVar

import asyncpg

from agent_runtime import v1
from agent_runtime_server.core.errors import CallerError, StoreUnavailable
from agent_runtime_server.core.observe import Observer
from agent_runtime_server.stores.base import Bus, History
from agent_runtime_server.stores.postgres.database import Database
from agent_runtime_server.stores.postgres.replicas import Replica
from agent_runtime_server.stores.recent_writers import RecentWriters

T = TypeVar("T")

_STICKY_SECONDS: Final = 5.0
_CHECK_SECONDS: Final = 1.0

# Behind every commit that has been answered, also with synchronous_commit off.
_POSITION: Final = "SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint AS position"
_FLUSHED: Final = "SELECT (pg_current_wal_flush_lsn() - '0/0'::pg_lsn)::bigint AS position"


class PostgresHistories:
    """The Histories on one primary and its replicas; `run` must run while it is used."""

    def __init__(
        self,
        primary: Database,
        history: History,
        replicas: Sequence[Replica],
        bus: Bus,
        observer: Observer,
        *,
        sticky_seconds: float = _STICKY_SECONDS,
    ) -> None:
        self._primary = primary
        self._history = history
        self._replicas = replicas
        self._observer = observer
        self._turn = 0
        self._writers = RecentWriters(bus, sticky_seconds) if replicas else None
        self._asking = asyncio.Lock()
        self._next: asyncio.Task[int] | None = None
        for replica in replicas:
            _watch(replica, observer)

    async def run(self) -> None:
        """Check every replica again and again, until cancelled."""
        while self._replicas:
            await self.check()
            await asyncio.sleep(_CHECK_SECONDS)

    async def check(self) -> None:
        """Check every replica once."""
        position = None
        with suppress(StoreUnavailable):
            position = await self._place(_FLUSHED)
        async with asyncio.TaskGroup() as group:
            for replica in self._replicas:
                group.create_task(replica.check(position), name=f"check {replica.name}")

    def dependencies(self) -> Sequence[v1.Dependency]:
        """Return the state of every replica as SystemService tells it."""
        return [replica.dependency() for replica in self._replicas]

    async def wrote(self, caller: str) -> int:
        """Note that a caller has just changed something; returns a position behind it, 0 without replicas."""
        if self._writers is None:
            return 0
        self._writers.note(caller)
        try:
            return await self._position()
        except StoreUnavailable:
            return 0  # the caller goes on with an older one; what it wrote is at least noted here

    async def read(self, caller: str, position: int, ask: Callable[[History], Awaitable[T]]) -> T:
        """Ask a server that has come as far as `position`, or without one the primary if the caller just wrote."""
        if self._writers is not None and (position or caller not in self._writers):
            for replica in self._in_turn():
                try:
                    if not await replica.has(position):
                        continue
                    answer = await ask(replica.history)
                except CallerError:
                    break  # it may be behind: only the primary knows what there is not
                except (StoreUnavailable, asyncpg.PostgresError) as error:
                    replica.failed(error)
                    continue
                self._observer.read_served(replica.name)
                return answer
        self._observer.read_served("primary")
        return await ask(self._history)

    def _in_turn(self) -> Sequence[Replica]:
        self._turn += 1
        start = self._turn % len(self._replicas)
        return [replica for replica in (*self._replicas[start:], *self._replicas[:start]) if replica.fit]

    async def _position(self) -> int:
        """Return a position behind everything that was committed before; callers that come together share one."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_task(self._ask())
        return await asyncio.shield(self._next)

    async def _ask(self) -> int:
        async with self._asking:
            self._next = None  # whoever comes from now on may have written too late for this one
            return await self._place(_POSITION)

    async def _place(self, sql: str) -> int:
        row = await self._primary.read_row(sql)
        assert row is not None, "a SELECT without FROM has a row"
        position: int = row["position"]
        return position


def _watch(replica: Replica, observer: Observer) -> None:
    labels = {"replica": replica.name}
    observer.watch("database_replica_fit", "Whether a replica is asked.", lambda: replica.fit, **labels)
    observer.watch("database_replica_lag_seconds", "How late a replica is.", lambda: replica.lag_seconds, **labels)
    observer.watch(
        "database_replica_lag_bytes", "Log that a replica has not replayed.", lambda: replica.lag_bytes, **labels
    )
