"""API keys."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

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

_IS_GOOD = "revoke_time IS NULL AND (expire_time IS NULL OR expire_time > now())"

_GOOD = f"SELECT key_id, expire_time FROM api_keys WHERE key_id = ANY ($1) AND {_IS_GOOD}"

_REPLACE = f"""WITH replaced AS (
        UPDATE api_keys SET expire_time = least(expire_time, now() + $9::interval)
        WHERE key_id = $8 AND {_IS_GOOD} RETURNING 1)
    INSERT INTO api_keys (key_id, digest, tenant, subject, display_name, roles, expire_time)
    SELECT $1, $2, $3, $4, $5, $6::text[], $7::timestamptz FROM replaced RETURNING 1"""


class PostgresKeys:
    """The KeyStore on Postgres, and what the terminal does with keys."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, key_id: str) -> KeyRow | None:
        """Return one key, revoked or not."""
        row = await self._database.fetchrow(f"SELECT {_COLUMNS} FROM api_keys WHERE key_id = $1", key_id)
        return None if row is None else _key(row)

    async def good(self, key_ids: Sequence[str]) -> Mapping[str, datetime | None]:
        """Return those of these keys that exist and are neither revoked nor expired, and when they will be."""
        return {row["key_id"]: row["expire_time"] for row in await self._database.fetch(_GOOD, list(key_ids))}

    async def add(self, key: KeyRow) -> None:
        """Keep a new key."""
        await self._database.fetch(_ADD, *_row(key))

    async def replace(self, key_id: str, new: KeyRow, grace: timedelta) -> bool:
        """Keep a new key in place of a good one, which ends after the grace; False when that one is not good."""
        return await self._database.fetchrow(_REPLACE, *_row(new), key_id, grace) is not None

    async def list_keys(self, tenant: str | None) -> Sequence[KeyRow]:
        """Return the keys of a tenant, or of all."""
        return [_key(row) for row in await self._database.fetch(_LIST, tenant)]

    async def revoke(self, key_id: str) -> bool:
        """Make a key worthless; False when there is none of this id."""
        return await self._database.fetchrow(_REVOKE, key_id) is not None


def _row(key: KeyRow) -> tuple[object, ...]:
    roles = sorted(key.roles)
    return (key.key_id, key.digest, key.tenant, key.subject, key.display_name, roles, key.expire_time)


def _key(row: asyncpg.Record) -> KeyRow:
    known = frozenset(Role)
    roles = frozenset(Role(name) for name in row["roles"] if name in known)
    return KeyRow(**(dict(row) | {"roles": roles}))
