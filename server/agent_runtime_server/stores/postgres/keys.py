"""API keys."""

from collections.abc import Sequence

import asyncpg

from agent_runtime_server.core.principal import Role
from agent_runtime_server.stores.postgres.database import Database
from agent_runtime_server.stores.shared import KeyRow

_COLUMNS = "key_id, digest, tenant, subject, display_name, roles, create_time, expire_time, revoke_time"

_ADD = """INSERT INTO api_keys (key_id, digest, tenant, subject, display_name, roles, expire_time)
    VALUES ($1, $2, $3, $4, $5, $6, $7)"""

_LIST = f"""SELECT {_COLUMNS} FROM api_keys WHERE $1::text IS NULL OR tenant = $1
    ORDER BY tenant, create_time, key_id"""

_REVOKE = "UPDATE api_keys SET revoke_time = coalesce(revoke_time, now()) WHERE key_id = $1 RETURNING 1"

_GOOD = "SELECT key_id FROM api_keys WHERE key_id = ANY ($1) AND revoke_time IS NULL"


class PostgresKeys:
    """The KeyStore on Postgres, and what the terminal does with keys."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, key_id: str) -> KeyRow | None:
        """Return one key, revoked or not."""
        row = await self._database.fetchrow(f"SELECT {_COLUMNS} FROM api_keys WHERE key_id = $1", key_id)
        return None if row is None else _key(row)

    async def good(self, key_ids: Sequence[str]) -> frozenset[str]:
        """Return those of these keys that exist and are not revoked."""
        return frozenset(row["key_id"] for row in await self._database.fetch(_GOOD, list(key_ids)))

    async def add(self, key: KeyRow) -> None:
        """Keep a new key."""
        await self._database.fetch(
            _ADD, key.key_id, key.digest, key.tenant, key.subject, key.display_name, sorted(key.roles), key.expire_time
        )

    async def list_keys(self, tenant: str | None) -> Sequence[KeyRow]:
        """Return the keys of a tenant, or of all."""
        return [_key(row) for row in await self._database.fetch(_LIST, tenant)]

    async def revoke(self, key_id: str) -> bool:
        """Make a key worthless; False when there is none of this id."""
        return await self._database.fetchrow(_REVOKE, key_id) is not None


def _key(row: asyncpg.Record) -> KeyRow:
    known = frozenset(Role)
    roles = frozenset(Role(name) for name in row["roles"] if name in known)
    return KeyRow(**(dict(row) | {"roles": roles}))
