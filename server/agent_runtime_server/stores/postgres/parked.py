"""Turns that wait for a model."""

from collections.abc import Mapping, Sequence

from agent_runtime_server.stores.postgres.database import Database

_LOOK = """WITH waiting AS (
        SELECT session_id FROM parked_turns WHERE look_time <= now()
        ORDER BY look_time LIMIT $1 FOR UPDATE SKIP LOCKED)
    UPDATE parked_turns p SET look_time = now() + interval '1 second'
    FROM waiting WHERE p.session_id = waiting.session_id RETURNING p.session_id"""

# Rows that an append holds are left for the next time, so that the two never deadlock.
_FORGET = """WITH settled AS (
        SELECT p.session_id FROM parked_turns p
        JOIN unnest($1::text[], $2::bigint[]) AS asked (session_id, seq)
          ON p.session_id = asked.session_id AND p.seq <= asked.seq
        FOR UPDATE OF p SKIP LOCKED)
    DELETE FROM parked_turns p USING settled WHERE p.session_id = settled.session_id"""


class PostgresParkedTurns:
    """The ParkedTurns in Postgres."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def count(self) -> int:
        """Return how many there are."""
        row = await self._database.fetchrow("SELECT count(*) AS number FROM parked_turns")
        assert row is not None, "a count has a row"
        number: int = row["number"]
        return number

    async def look(self, limit: int) -> Sequence[str]:
        """Return sessions to look at, which nobody else is given for a second."""
        return [row["session_id"] for row in await self._database.fetch(_LOOK, limit)]

    async def forget(self, heads: Mapping[str, int]) -> None:
        """Forget sessions, unless a turn was parked behind the seq that is given with each."""
        await self._database.fetch(_FORGET, [*heads], [*heads.values()])
