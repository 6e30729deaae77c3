"""Approvals across sessions, and the claims on them."""

from collections.abc import Mapping, Sequence

import asyncpg

from agent_runtime import v1
from agent_runtime_server.stores.base import ApprovalQuery, Frame, ListedApproval
from agent_runtime_server.stores.postgres.database import Database

_GET = "SELECT payload, agent_id, create_time FROM approvals WHERE tenant = $1 AND approval_id = $2"

_LIST = """SELECT payload, agent_id, create_time FROM approvals
    WHERE tenant = $1 AND ($2::timestamptz IS NULL OR (create_time, approval_id) < ($2, $3))
      AND (cardinality($4::smallint[]) = 0 OR state = ANY ($4))
      AND (cardinality($5::text[]) = 0 OR session_id = ANY ($5))
      AND (cardinality($6::text[]) = 0 OR agent_id = ANY ($6))
      AND risk >= $7 AND ($8::bigint IS NULL OR commit_xid >= $8)
    ORDER BY create_time DESC, approval_id DESC LIMIT $9"""

_CLAIM = """WITH known AS (SELECT 1 FROM frames WHERE scope = $4 AND frame_id = $5),
    claimed AS (
        UPDATE approvals SET revision = $2, payload = $3, commit_xid = (pg_current_xact_id()::text)::bigint
        WHERE approval_id = $1 AND tenant = $7 AND revision = $2 - 1 AND NOT EXISTS (SELECT 1 FROM known) RETURNING 1)
    INSERT INTO frames (scope, frame_id, digest, seq) SELECT $4, $5, $6, 0 FROM claimed RETURNING 1"""


class PostgresApprovals:
    """The ApprovalStore on Postgres."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, tenant: str, approval_id: str) -> ListedApproval | None:
        """Return one approval of a tenant."""
        row = await self._database.read_row(_GET, tenant, approval_id)
        return None if row is None else _listed(row)

    async def revisions(self, tenant: str, approval_ids: Sequence[str]) -> Mapping[str, v1.Approval]:
        """Return the latest rows of these approvals."""
        rows = await self._database.read(
            "SELECT approval_id, payload FROM approvals WHERE approval_id = ANY ($1) AND tenant = $2",
            list(approval_ids),
            tenant,
        )
        return {row["approval_id"]: v1.Approval.FromString(row["payload"]) for row in rows}

    async def list_approvals(self, query: ApprovalQuery) -> Sequence[ListedApproval]:
        """Return a page of approvals, newest first."""
        moment, approval_id = query.before or (None, None)
        rows = await self._database.read(
            _LIST, query.tenant, moment, approval_id, list(query.states), list(query.session_ids),
            list(query.agent_ids), query.min_risk, query.since_xid, query.limit,
        )  # fmt: skip
        return [_listed(row) for row in rows]

    async def replace_claim(self, tenant: str, before: int, approval: v1.Approval, frame: Frame) -> bool:
        """Store a changed claim, whose revision is `before` + 1."""
        assert approval.revision == before + 1, "a claim makes the next revision"
        try:
            row = await self._database.read_row(  # twice is noticed: the frame is known by then
                _CLAIM, approval.approval_id, approval.revision, approval.SerializeToString(),
                frame.scope, frame.frame_id, frame.digest, tenant,
            )  # fmt: skip
        except asyncpg.UniqueViolationError:  # the frame was used at the same moment for another approval
            return False
        return row is not None

    async def changed_since(self, xid: int) -> bool:
        """Tell whether this or a later transaction has changed an approval."""
        row = await self._database.read_row("SELECT 1 FROM approvals WHERE commit_xid >= $1 LIMIT 1", xid)
        return row is not None

    async def horizon(self) -> int:
        """Return a transaction number below which everything is committed or gone."""
        row = await self._database.read_row("SELECT (pg_snapshot_xmin(pg_current_snapshot())::text)::bigint AS xid")
        assert row is not None, "a SELECT without FROM has a row"
        horizon: int = row["xid"]
        return horizon


def _listed(row: asyncpg.Record) -> ListedApproval:
    return ListedApproval(v1.Approval.FromString(row["payload"]), row["agent_id"], row["create_time"])
