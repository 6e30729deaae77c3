"""What was asked of models, by day."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Final

import asyncpg

from agent_runtime import v1
from agent_runtime_server.stores.postgres.database import Database
from agent_runtime_server.stores.shared import DayUsage, Spender

_FIELDS: Final = tuple(field.name for field in v1.Usage.DESCRIPTOR.fields)

# Rows are locked in one order, so that replicas that add at once never deadlock.
_ADD: Final = f"""INSERT INTO usage_days (tenant, day, subject, {", ".join(_FIELDS)})
    SELECT * FROM unnest($1::text[], $2::date[], $3::text[], {
    ", ".join(f"${place}::bigint[]" for place in range(4, 4 + len(_FIELDS)))
}) AS added ORDER BY 1, 2, 3
    ON CONFLICT (tenant, day, subject) DO UPDATE SET {
    ", ".join(f"{name} = usage_days.{name} + excluded.{name}" for name in _FIELDS)
}"""

_SUM: Final = ", ".join(f"sum({name})::bigint AS {name}" for name in _FIELDS)

_TOTALS: Final = f"""SELECT u.tenant, NULL AS subject, {_SUM} FROM usage_days u
    WHERE u.day = $1 AND u.tenant = ANY ($2) GROUP BY u.tenant
    UNION ALL SELECT u.tenant, u.subject, {_SUM} FROM usage_days u
    JOIN unnest($3::text[], $4::text[]) AS asked (tenant, subject)
      ON u.tenant = asked.tenant AND u.subject = asked.subject
    WHERE u.day = $1 GROUP BY u.tenant, u.subject"""

_DAYS: Final = f"""SELECT day, subject, {", ".join(_FIELDS)} FROM usage_days
    WHERE tenant = $1 AND day BETWEEN $2 AND $3 AND ($4::text IS NULL OR subject = $4)
    ORDER BY day DESC, subject LIMIT $5"""


class PostgresUsage:
    """The UsageStore on Postgres."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, counted: Mapping[tuple[Spender, date], v1.Usage]) -> None:
        """Add what was counted."""
        keys = [(spender.tenant, day, spender.subject) for spender, day in counted]
        numbers = [[getattr(usage, name) for usage in counted.values()] for name in _FIELDS]
        await self._database.fetch(_ADD, *(list(column) for column in zip(*keys, strict=True)), *numbers)

    async def totals(self, day: date, spenders: Sequence[Spender]) -> Mapping[Spender, v1.Usage]:
        """Return what these have spent on a day; a tenant's own total stands under no subject."""
        tenants = sorted({spender.tenant for spender in spenders})
        of, who = [spender.tenant for spender in spenders], [spender.subject for spender in spenders]
        rows = await self._database.read(_TOTALS, day, tenants, of, who)
        return {Spender(row["tenant"], row["subject"] or ""): _usage(row) for row in rows}

    async def days(self, tenant: str, first: date, last: date, subject: str | None, limit: int) -> Sequence[DayUsage]:
        """Return what was spent on which day and by whom, latest first; by all subjects unless one is named."""
        rows = await self._database.read(_DAYS, tenant, first, last, subject, limit)
        return [DayUsage(row["day"], row["subject"], _usage(row)) for row in rows]


def _usage(row: asyncpg.Record) -> v1.Usage:
    return v1.Usage(**{name: row[name] for name in _FIELDS})
