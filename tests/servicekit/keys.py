"""API keys of a server, made beside it as an operator would."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from agent_runtime_server.auth.keys import new_key
from agent_runtime_server.core.principal import Role
from agent_runtime_server.embedded import embedded
from agent_runtime_server.stores.postgres.database import open_database
from agent_runtime_server.stores.postgres.keys import PostgresKeys
from servicekit.process import ServerProcess


class KeyRing:
    """Makes keys."""

    def __init__(self, store: PostgresKeys, database_url: str) -> None:
        self.database_url = database_url
        self._store = store

    async def new(self, tenant: str, subject: str, *roles: str, seconds: float | None = None) -> str:
        """Return a new key, good for so many seconds; of a user and reviewer unless roles are named."""
        expires = None if seconds is None else datetime.now(UTC) + timedelta(seconds=seconds)
        key, row = new_key(tenant, subject, [Role(role) for role in roles or ("user", "reviewer")], expires)
        await self._store.add(row)
        return key

    async def revoke(self, key: str) -> None:
        """Make a key worthless."""
        assert await self._store.revoke(key.split("_")[1])


@asynccontextmanager
async def keys_of(server: ServerProcess) -> AsyncIterator[KeyRing]:
    """Reach the keys of a server with embedded databases."""
    async with (
        embedded(server.state_dir, want_redis=False) as servers,
        open_database(servers.database_url, most_connections=1) as database,
    ):
        yield KeyRing(PostgresKeys(database), servers.database_url)
