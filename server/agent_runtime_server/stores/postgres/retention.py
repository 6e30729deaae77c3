"""Snapshots, compaction, expiry and removal."""

from collections.abc import Sequence
from datetime import timedelta

from agent_runtime import v1
from agent_runtime_server.stores.base import Snapshot
from agent_runtime_server.stores.postgres.database import Database
from agent_runtime_server.stores.upkeep import Compaction, SessionName

_CLAIM = """INSERT INTO rounds (name, next_time) VALUES ($1, now() + $2)
    ON CONFLICT (name) DO UPDATE SET next_time = excluded.next_time WHERE rounds.next_time <= now() RETURNING 1"""

# One statement sees one oldest_seq: it never takes the base that a compaction has made meanwhile for an old snapshot.
_SAVE = """WITH kept AS (SELECT oldest_seq FROM sessions WHERE session_id = $1 AND tenant <> ''),
    old AS (
        DELETE FROM session_snapshots p USING kept
        WHERE p.session_id = $1 AND p.fold_version = $2 AND p.seq < $3 AND p.seq >= kept.oldest_seq AND NOT p.base)
    INSERT INTO session_snapshots (session_id, fold_version, seq, base, bytes)
    SELECT $1, $2, $3, false, $4 FROM kept WHERE $3 >= oldest_seq ON CONFLICT DO NOTHING"""

# In any order, so that sessions that cannot be compacted now never keep the others from it.
_LONG = """SELECT DISTINCT s.tenant, s.session_id, random() FROM session_snapshots p JOIN sessions s USING (session_id)
    WHERE NOT p.base AND p.seq > $1 AND s.head_seq - s.oldest_seq >= $1 AND s.tenant <> '' ORDER BY 3 LIMIT $2"""

_OUTLIVED = """WITH idle AS (
        SELECT session_id FROM sessions
        WHERE create_time <= now() - $1::interval AND update_time <= now() - $1::interval
          AND expire_time IS NULL AND tenant <> ''
        ORDER BY session_id LIMIT $2 FOR UPDATE SKIP LOCKED)
    UPDATE sessions s SET expire_time = now() FROM idle WHERE s.session_id = idle.session_id"""

_EXPIRED = f"""SELECT tenant, session_id FROM sessions
    WHERE expire_time <= now() AND state <> {v1.SESSION_STATE_CLOSED} AND tenant <> ''
    ORDER BY expire_time LIMIT $1"""

_BURY = f"""WITH over AS (
        SELECT session_id FROM sessions
        WHERE expire_time <= now() - $1::interval AND state = {v1.SESSION_STATE_CLOSED} AND tenant <> ''
        ORDER BY session_id LIMIT $2 FOR UPDATE SKIP LOCKED)
    UPDATE sessions s SET tenant = '', request_id = NULL FROM over WHERE s.session_id = over.session_id"""

_BURIED = "SELECT session_id FROM sessions WHERE tenant = '' ORDER BY session_id LIMIT $1"

_OLD_FRAMES = """DELETE FROM frames WHERE (scope, frame_id) IN (
    SELECT scope, frame_id FROM frames WHERE scope LIKE 'reviewer/%' AND create_time <= now() - $1::interval
    ORDER BY create_time LIMIT $2) RETURNING 1"""


class PostgresRetention:
    """The Retention on Postgres."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, work: str, every: timedelta) -> bool:
        """Take a round of this work for all replicas; False when one was taken less than that long ago."""
        return await self._database.fetchrow(_CLAIM, work, every) is not None

    async def save(self, session_id: str, snapshot: Snapshot) -> None:
        """Keep a snapshot in place of the one before."""
        await self._database.read(_SAVE, session_id, snapshot.fold_version, snapshot.seq, snapshot.bytes)

    async def long(self, keep: int, limit: int) -> Sequence[SessionName]:
        """Return sessions with more than `keep` events."""
        rows = await self._database.read(_LONG, keep, limit)
        return [SessionName(row["tenant"], row["session_id"]) for row in rows]

    async def compact(self, compaction: Compaction) -> bool:
        """Remove the oldest events with the snapshot that stands for them; False when it is not to be done now."""
        base = compaction.base
        row = await self._database.read_row(
            "SELECT compact_session($1, $2, $3, $4, $5) AS done",
            compaction.session_id, compaction.oldest_seq, base.seq + 1, base.fold_version, base.bytes,
        )  # fmt: skip
        assert row is not None, "a SELECT without FROM has a row"
        return bool(row["done"])

    async def expire_idle(self, idle: timedelta, limit: int) -> None:
        """Let sessions expire now that nobody has used for that long."""
        await self._database.read(_OUTLIVED, idle, limit)

    async def expired(self, limit: int) -> Sequence[SessionName]:
        """Return sessions that have expired and are still open."""
        return [SessionName(row["tenant"], row["session_id"]) for row in await self._database.read(_EXPIRED, limit)]

    async def bury(self, since: timedelta, limit: int) -> None:
        """Take closed sessions that expired that long ago out of everybody's sight."""
        await self._database.read(_BURY, since, limit)

    async def buried(self, limit: int) -> Sequence[str]:
        """Return sessions of which something is still to be removed."""
        return [row["session_id"] for row in await self._database.read(_BURIED, limit)]

    async def remove(self, session_id: str, most: int) -> bool:
        """Remove rows of a buried session; True when there is nothing left to do here."""
        row = await self._database.read_row("SELECT remove_session($1, $2) AS done", session_id, most)
        assert row is not None, "a SELECT without FROM has a row"
        return bool(row["done"])

    async def forget_reviewers_frames(self, age: timedelta, limit: int) -> int:
        """Remove frames of reviewers that are older; returns how many."""
        return len(await self._database.read(_OLD_FRAMES, age, limit))
