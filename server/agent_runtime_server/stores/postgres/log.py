"""Sessions and their event logs."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import asyncpg

from agent_runtime import v1
from agent_runtime_server.core.errors import StoreUnavailable
from agent_runtime_server.stores.base import (
    Append,
    Appended,
    CompactedError,
    FeedPlace,
    Loaded,
    NewSession,
    SessionQuery,
    SessionRow,
    Snapshot,
    StoredEvent,
)
from agent_runtime_server.stores.postgres.database import Database, Lost
from agent_runtime_server.stores.postgres.writer import Writer

_PAGE_BYTES = 2 << 20

_FREE = """session_id, tenant, owner, title, labels, head_seq, oldest_seq, state, summary, lease_epoch,
    false AS lease_mine, create_time, update_time, expire_time, xmin::text AS version"""
_ROW = _FREE.replace("false", "coalesce(lease_owner = $1, false)")

_LOAD_EVENTS = 500

_LOAD = f"""SELECT {_ROW.replace("xmin", "s.xmin")}, p.seq AS snapshot_seq, p.fold_version, p.bytes AS snapshot,
    (SELECT array_agg(e.payload ORDER BY e.seq) FROM (
        SELECT seq, payload, sum(octet_length(payload)) OVER (ORDER BY seq) AS size
        FROM (SELECT seq, payload FROM session_events
              WHERE session_id = s.session_id AND seq > coalesce(p.seq, 0) ORDER BY seq LIMIT {_LOAD_EVENTS}) AS one
        ) AS e WHERE e.size <= {_PAGE_BYTES} OR e.size = octet_length(e.payload)) AS events
    FROM sessions s LEFT JOIN LATERAL (
        SELECT n.seq, n.fold_version, n.bytes FROM session_snapshots n
        WHERE n.session_id = s.session_id AND n.seq >= s.oldest_seq - 1 AND (n.fold_version = $4 OR s.oldest_seq > 1)
        ORDER BY (n.fold_version = $4) DESC, n.seq DESC LIMIT 1) AS p ON true
    WHERE s.session_id = $2 AND s.tenant = $3"""

_BASE = """SELECT p.fold_version, p.seq, p.bytes FROM session_snapshots p JOIN sessions s USING (session_id)
    WHERE session_id = $1 AND s.tenant = $2 AND p.base AND p.seq = s.oldest_seq - 1
    ORDER BY (p.fold_version = $3) DESC, p.fold_version DESC LIMIT 1"""

_GET = f"SELECT {_ROW} FROM sessions WHERE session_id = $2 AND tenant <> '' AND ($3::text IS NULL OR tenant = $3)"

_LIST = f"""SELECT {_ROW} FROM sessions
    WHERE tenant = $2 AND ($3::timestamptz IS NULL OR (create_time, session_id) < ($3, $4))
      AND (cardinality($5::smallint[]) = 0 OR state = ANY ($5)) AND labels @> $6
    ORDER BY create_time DESC, session_id DESC LIMIT $7"""

_CREATE = f"""WITH made AS (
    INSERT INTO sessions (session_id, tenant, owner, request_id, title, labels, head_seq, oldest_seq, state, summary,
                          create_time, update_time)
    VALUES ($1, $2, $3, nullif($4, ''), $5, $6, coalesce($13, 0) + cardinality($10::bigint[]), coalesce($13, 0) + 1,
            $7, $8, $9, $9)
    ON CONFLICT DO NOTHING RETURNING {_FREE}),
    based AS (
    INSERT INTO session_snapshots (session_id, fold_version, seq, base, bytes)
    SELECT session_id, $14, $13, true, $15 FROM made WHERE $13::bigint IS NOT NULL),
    begun AS (
    INSERT INTO session_events (session_id, seq, kind, payload)
    SELECT made.session_id, e.seq, e.kind, e.payload
    FROM made, unnest($10::bigint[], $11::smallint[], $12::bytea[]) AS e (seq, kind, payload))
    SELECT * FROM made"""

_EXISTING = f"""SELECT {_ROW},
    (SELECT payload FROM session_events e WHERE e.session_id = s.session_id AND e.seq = s.oldest_seq) AS first
    FROM sessions s
    WHERE session_id = $2 OR (tenant = $3 AND request_id = nullif($4, '')) LIMIT 1"""

_UPDATE = f"""UPDATE sessions SET title = coalesce($4, title), labels = coalesce($5, labels),
    expire_time = CASE WHEN $6 THEN $7 ELSE expire_time END
    WHERE session_id = $2 AND tenant = $8 AND ($3 = '' OR xmin::text = $3) RETURNING {_ROW}"""

# The horizon is read with the page: a compaction is seen in both or in neither.
_FEED = """SELECT h.horizon, e.* FROM (SELECT (SELECT xid FROM feed_horizons WHERE tenant = $1) AS horizon) AS h
    LEFT JOIN LATERAL (
        SELECT e.session_id, e.seq, e.kind, e.payload, e.commit_xid
        FROM session_events e JOIN sessions s USING (session_id)
        WHERE s.tenant = $1 AND e.commit_xid >= $2 AND e.commit_xid < $5
          AND (e.commit_xid, e.session_id, e.seq) > ($2, $3, $4)
        ORDER BY e.commit_xid, e.session_id, e.seq LIMIT $6) AS e ON true
    ORDER BY e.commit_xid, e.session_id, e.seq"""

# Sizes are summed over there, so that a page of large events never has to fit in memory here.
_EVENTS = f"""SELECT seq, kind, payload FROM (
        SELECT seq, kind, payload, sum(octet_length(payload)) OVER (ORDER BY seq) AS size FROM (
            SELECT seq, kind, payload FROM session_events
            WHERE session_id = $1 AND seq > $2 AND EXISTS (SELECT FROM sessions WHERE session_id = $1 AND tenant = $4)
            ORDER BY seq LIMIT $3) AS one) AS page
    WHERE size <= {_PAGE_BYTES} OR size = octet_length(payload) ORDER BY seq"""


class PostgresLog:
    """The EventLog on Postgres."""

    def __init__(self, database: Database, writer: Writer, replica: int) -> None:
        self._database = database
        self._writer = writer
        self._replica = replica

    async def append(self, append: Append) -> Appended:
        """Commit through the group-commit writer."""
        return await self._writer.append(append)

    async def create(self, new: NewSession) -> tuple[SessionRow, bool]:
        """Make a session; returns it, or the one there already is by its id or request id, and whether it was made."""
        session, lost = new.session, False
        arguments = (
            session.session_id, new.tenant, session.owner.SerializeToString(), new.request_id, session.title,
            json.dumps(dict(session.labels)), session.state, session.SerializeToString(),
            session.create_time.ToDatetime(UTC), [event.seq for event in new.events],
            [event.kind for event in new.events], [event.payload for event in new.events],
            *(_snapshot(new.base)),
        )  # fmt: skip
        try:
            made = await self._database.fetchrow(_CREATE, *arguments)
        except Lost:
            lost = True
            made = await self._database.fetchrow(_CREATE, *arguments)
        if made is not None:
            return _session_row(made), True
        existing = await self._database.read_row(
            _EXISTING, self._replica, session.session_id, new.tenant, new.request_id
        )
        if existing is None:  # it was removed in between
            raise StoreUnavailable("the session was removed at this very moment; try again")
        return _session_row(existing), lost and existing["first"] == new.events[0].payload

    async def load(self, tenant: str, session_id: str, fold_version: int) -> Loaded | None:
        """Return a session to be folded, in one round trip."""
        row = await self._database.read_row(_LOAD, self._replica, session_id, tenant, fold_version)
        if row is None:
            return None
        packed = row["snapshot"]
        snapshot = None if packed is None else Snapshot(row["snapshot_seq"], row["fold_version"], packed)
        return Loaded(_session_row(row), row["events"] or [], snapshot)

    async def base(self, tenant: str, session_id: str, fold_version: int) -> Snapshot | None:
        """Return the snapshot right before the oldest event, best of this version."""
        row = await self._database.read_row(_BASE, session_id, tenant, fold_version)
        return None if row is None else Snapshot(row["seq"], row["fold_version"], row["bytes"])

    async def row(self, tenant: str | None, session_id: str) -> SessionRow | None:
        """Return a session without its log."""
        row = await self._database.read_row(_GET, self._replica, session_id, tenant)
        return None if row is None else _session_row(row)

    async def list_sessions(self, query: SessionQuery) -> Sequence[SessionRow]:
        """Return a page of sessions, newest first."""
        moment, session_id = query.before or (None, None)
        rows = await self._database.read(
            _LIST, self._replica, query.tenant, moment, session_id, list(query.states),
            json.dumps(dict(query.labels or {})), query.limit,
        )  # fmt: skip
        return [_session_row(row) for row in rows]

    async def update(
        self, tenant: str, session_id: str, etag: str, title: str | None, labels: Mapping[str, str] | None,
        expire_time: datetime | None, *, set_expire: bool,
    ) -> SessionRow | None:  # fmt: skip
        """Change what lies beside the log; None when there is no such session or the etag does not match."""
        encoded = None if labels is None else json.dumps(dict(labels))
        once = self._database.fetchrow if etag else self._database.read_row  # changing the row changes its etag
        row = await once(_UPDATE, self._replica, session_id, etag, title, encoded, set_expire, expire_time, tenant)
        return None if row is None else _session_row(row)

    async def events(self, tenant: str, session_id: str, after_seq: int, limit: int) -> Sequence[StoredEvent]:
        """Return events with a higher seq, cut at about 2 MiB but never empty while there are any."""
        rows = await self._database.read(_EVENTS, session_id, after_seq, limit, tenant)
        return [StoredEvent(row["seq"], row["kind"], row["payload"]) for row in rows]

    async def feed(
        self, tenant: str, place: FeedPlace, limit: int
    ) -> tuple[Sequence[tuple[StoredEvent, FeedPlace]], FeedPlace]:
        """Return events of all sessions behind a place, and the place behind the page."""
        end = await self.feed_end()
        rows = await self._database.read(_FEED, tenant, place.xid, place.session_id, place.seq, end.xid, limit)
        horizon = rows[0]["horizon"]
        if horizon is not None and horizon >= place.xid:
            raise CompactedError(FeedPlace(horizon + 1))
        page = [
            (
                StoredEvent(row["seq"], row["kind"], row["payload"]),
                FeedPlace(row["commit_xid"], row["session_id"], row["seq"]),
            )
            for row in rows
            if row["seq"] is not None
        ]
        return page, page[-1][1] if len(page) == limit else end

    async def feed_end(self) -> FeedPlace:
        """Return the place below which nothing can be committed any more."""
        row = await self._database.read_row("SELECT (pg_snapshot_xmin(pg_current_snapshot())::text)::bigint AS xid")
        assert row is not None, "a SELECT without FROM has a row"
        return FeedPlace(row["xid"])

    async def heads(self, session_ids: Sequence[str]) -> Mapping[str, int]:
        """Return the head seqs of these sessions."""
        rows = await self._database.read(
            "SELECT session_id, head_seq FROM sessions WHERE session_id = ANY ($1) AND tenant <> ''", list(session_ids)
        )
        return {row["session_id"]: row["head_seq"] for row in rows}

    async def frame(self, scope: str, frame_id: str) -> tuple[int, bytes] | None:
        """Return the seq and digest of a known frame."""
        row = await self._database.read_row(
            "SELECT seq, digest FROM frames WHERE scope = $1 AND frame_id = $2", scope, frame_id
        )
        return None if row is None else (row["seq"], row["digest"])


def _snapshot(snapshot: Snapshot | None) -> tuple[int | None, int | None, bytes | None]:
    return (None, None, None) if snapshot is None else (snapshot.seq, snapshot.fold_version, snapshot.bytes)


def _session_row(row: asyncpg.Record) -> SessionRow:
    """Join what the fold made with what lies beside it."""
    session = v1.Session.FromString(row["summary"])
    session.title = row["title"]
    session.labels.clear()  # a session that has only begun carries those of its creation
    session.labels.update(json.loads(row["labels"]))
    session.owner.ParseFromString(row["owner"])
    session.head_seq = row["head_seq"]
    session.oldest_seq = row["oldest_seq"]
    session.create_time.FromDatetime(row["create_time"])
    session.update_time.FromDatetime(row["update_time"])
    if row["expire_time"] is not None:
        session.expire_time.FromDatetime(row["expire_time"])
    session.etag = row["version"]
    return SessionRow(session, row["tenant"], row["lease_epoch"], row["lease_mine"])
