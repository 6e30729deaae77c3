"""Numbered SQL files, applied in order, each once, under a lock."""

from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files

import asyncpg

from agent_runtime_server.stores.postgres.database import Connection, Database

_LOCK = 0x61676E74  # any number that is only ours
_PATIENCE_SECONDS = 3600.0  # a large table takes its time

_TABLE = """
CREATE TABLE IF NOT EXISTS migrations (
    number     integer PRIMARY KEY,
    name       text NOT NULL,
    sha256     text NOT NULL,
    apply_time timestamptz NOT NULL DEFAULT now()
)"""


class MigrationError(Exception):
    """The database was made by other migrations than these, or lets us make nothing."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema."""

    number: int
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        """Digest of the text, which must not change once applied."""
        return sha256(self.sql.encode()).hexdigest()


def packaged() -> list[Migration]:
    """Return the migrations of this version, in order."""
    scripts = [entry for entry in files(__package__).iterdir() if entry.name.endswith(".sql")]
    found = [Migration(int(entry.name[:4]), entry.name, entry.read_text("utf-8")) for entry in scripts]
    return sorted(found, key=lambda migration: migration.number)


async def migrate(database: Database) -> None:
    """Bring the schema up to this version; replicas that start together wait for each other."""
    async with database.connection() as connection:
        await connection.execute("SET statement_timeout = 0")
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK, timeout=_PATIENCE_SECONDS)
        try:
            await _apply_missing(connection)
        except asyncpg.SyntaxOrAccessError as error:
            raise MigrationError(f"the schema cannot be made: {error}") from error
        finally:
            await connection.execute("SELECT pg_advisory_unlock($1)", _LOCK)
            await connection.execute("RESET statement_timeout")


async def _apply_missing(connection: Connection) -> None:
    await connection.execute(_TABLE)
    applied = {row["number"]: row["sha256"] for row in await connection.fetch("SELECT * FROM migrations")}
    for migration in packaged():
        before = applied.get(migration.number)
        if before is None:
            await _apply(connection, migration)
        elif before != migration.sha256:
            raise MigrationError(f"migration {migration.name} was changed after it had been applied")


async def _apply(connection: Connection, migration: Migration) -> None:
    async with connection.transaction():
        await connection.execute(migration.sql, timeout=_PATIENCE_SECONDS)
        await connection.execute(
            "INSERT INTO migrations (number, name, sha256) VALUES ($1, $2, $3)",
            migration.number, migration.name, migration.sha256,
        )  # fmt: skip
