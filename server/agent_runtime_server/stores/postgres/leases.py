"""Ownership of running steps, and the advisory lock by which a replica shows that it lives."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from math import inf
from time import monotonic

import asyncpg

from agent_runtime_server.stores.postgres.database import Database, mapped_errors, reaching
from agent_runtime_server.stores.postgres.sockets import SERVER_SIDE, notice_dead_peers
from agent_runtime_server.stores.upkeep import Due, Taken

_PATIENCE_SECONDS = 5.0
_REPLICAS = 0x61677270  # the class of advisory locks that replicas hold

_TAKE = f"""WITH alive AS (
        SELECT objid::bigint AS replica FROM pg_locks
        WHERE locktype = 'advisory' AND classid = {_REPLICAS} AND granted
          AND database = (SELECT oid FROM pg_database WHERE datname = current_database())),
    free AS (
        SELECT session_id, lease_owner, lease_until FROM sessions
        WHERE runnable AND (lease_owner IS NULL OR (lease_until < now() AND (lease_owner = $1 OR NOT $4))
                            OR (lease_owner <> $1 AND NOT $4 AND lease_owner NOT IN (SELECT replica FROM alive)))
        ORDER BY session_id LIMIT $3 FOR UPDATE SKIP LOCKED)
    UPDATE sessions s SET lease_owner = $1, lease_epoch = s.lease_epoch + 1, lease_until = now() + $2
    FROM free WHERE s.session_id = free.session_id
    RETURNING s.session_id, s.lease_epoch, free.lease_owner IS NULL AS drained,
        free.lease_owner IS NOT NULL OR free.lease_until IS NOT NULL AS unfinished"""

# Rows are locked in the order of append_events, so that the two never deadlock.
_HELD = """WITH held AS (
        SELECT s.session_id FROM sessions s
        JOIN unnest($2::text[], $3::bigint[]) AS asked (session_id, epoch)
          ON s.session_id = asked.session_id AND s.lease_owner = $1 AND s.lease_epoch = asked.epoch
        ORDER BY s.session_id FOR UPDATE OF s)"""

_RENEW = f"""{_HELD} UPDATE sessions s SET lease_until = now() + $4 FROM held WHERE s.session_id = held.session_id
    RETURNING s.session_id"""

# A lease without an owner that has a time is one that was let go of in the middle of a step.
_RELEASE = f"""{_HELD} UPDATE sessions s SET lease_owner = NULL, lease_until = CASE WHEN $4 THEN now() END
    FROM held WHERE s.session_id = held.session_id"""

_ALIVE = """SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = $1 AND granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""

_DUE = """SELECT session_id, now() AS moment FROM sessions
    WHERE next_deadline <= now() ORDER BY next_deadline LIMIT $1"""


class PostgresLeases:
    """The Leases on Postgres, of one replica.

    Who has just lost and found Postgres must think that the others have too, and that they come to renew what ran out
    meanwhile: for one lease period it takes nothing from them.
    """

    def __init__(self, database: Database, presence: "Presence", lease: timedelta) -> None:
        self._database = database
        self._presence = presence
        self._replica = presence.replica
        self._lease = lease

    async def take_runnable(self, limit: int) -> Sequence[Taken]:
        """Take runnable sessions whose lease is free, run out, or held by a dead replica."""
        rows = await self._database.fetch(  # once: what a lost answer took runs out, and is taken again
            _TAKE, self._replica, self._lease, limit, self._presence.steady_seconds < self._lease.total_seconds()
        )
        return [Taken(*row) for row in rows]

    async def renew(self, epochs: Mapping[str, int]) -> Sequence[str]:
        """Renew these leases; returns the sessions that are no longer ours."""
        rows = await self._database.read(_RENEW, self._replica, [*epochs], [*epochs.values()], self._lease)
        return sorted(epochs.keys() - {row["session_id"] for row in rows})

    async def release(self, epochs: Mapping[str, int], *, unfinished: bool) -> None:
        """Let go of these leases, perhaps in the middle of a step."""
        await self._database.read(_RELEASE, self._replica, [*epochs], [*epochs.values()], unfinished)

    async def due(self, limit: int) -> Sequence[Due]:
        """Return sessions with a deadline that has passed."""
        return [Due(row["session_id"], row["moment"]) for row in await self._database.read(_DUE, limit)]


class Presence:
    """Shows that this replica lives: a connection of its own holds the advisory lock of its number."""

    def __init__(self, url: str, connection: "asyncpg.Connection[asyncpg.Record]", replica: int) -> None:
        self._url = url
        self._connection = connection
        self._regained = -inf  # when a lost lock was taken anew
        self.replicas = 1  # that live, as was last seen
        self.replica = replica

    @property
    def steady_seconds(self) -> float:
        """For how long the lock has been held without a break that this replica knows of."""
        return 0 if self._connection.is_closed() else monotonic() - self._regained

    async def keep(self) -> bool:
        """Take the lock anew if its connection was lost, and tell whether it was not; to be called every second."""
        with mapped_errors():
            if self._connection.is_closed():
                self._connection = await _locked(self._url, self.replica)
                self._regained = monotonic()
                return False
            try:
                self.replicas = max(1, await self._connection.fetchval(_ALIVE, _REPLICAS))
            except BaseException:
                self._connection.terminate()  # it may hang for ever, and the lock be gone without our knowing
                raise
            return True

    async def close(self) -> None:
        """Let go of the lock at once."""
        self._connection.terminate()


@asynccontextmanager
async def announce(url: str) -> AsyncIterator[Presence]:
    """Number this replica and hold its lock."""
    with mapped_errors():
        connection = await _connect(url)
        replica = await connection.fetchval("SELECT nextval('replica_number') % 2147483647")
        await _lock(connection, replica)
    presence = Presence(url, connection, replica)
    try:
        yield presence
    finally:
        await presence.close()


async def _connect(url: str) -> "asyncpg.Connection[asyncpg.Record]":
    """Connect so that a cut that nobody was told of ends the lock soon: until then it could not be taken anew."""
    with reaching():
        connection = await asyncpg.connect(
            url,
            timeout=_PATIENCE_SECONDS,
            command_timeout=_PATIENCE_SECONDS,
            server_settings={"application_name": "agent-runtime presence", **SERVER_SIDE},
        )
    await notice_dead_peers(connection)
    return connection


async def _locked(url: str, replica: int) -> "asyncpg.Connection[asyncpg.Record]":
    """Return a connection that holds the lock; one that does not get it shows nothing and is closed."""
    connection = await _connect(url)
    try:
        await _lock(connection, replica)
    except BaseException:
        connection.terminate()
        raise
    return connection


async def _lock(connection: "asyncpg.Connection[asyncpg.Record]", replica: int) -> None:
    await connection.execute("SELECT pg_advisory_lock($1, $2)", _REPLICAS, replica)
