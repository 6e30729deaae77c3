"""One Postgres for all tests of a worker; each test has a database of its own, cloned from a migrated one."""

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import asyncpg
import pytest

from agent_runtime_server.embedded import embedded, scratch_state_dir
from agent_runtime_server.stores.postgres.database import open_database
from agent_runtime_server.stores.postgres.migrations import migrate


class Cluster:
    """A Postgres that makes databases; the one it came with is the template."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._template = urlsplit(url).path.lstrip("/")
        self._numbers = itertools.count(1)

    def url(self, database: str) -> str:
        """Return the URL of a database."""
        return urlsplit(self._url)._replace(path=f"/{database}").geturl()

    async def prepare(self) -> None:
        """Migrate the template, and stop waiting for the disk: nothing here survives the tests."""
        await self._execute("ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")
        async with open_database(self._url) as database:
            await migrate(database)

    @asynccontextmanager
    async def database(self, template: str | None = None) -> AsyncIterator[str]:
        """Make a database, migrated or after another template, and yield its URL."""
        name = f"test_{next(self._numbers)}"
        await self._execute(f"CREATE DATABASE {name} TEMPLATE {template or self._template}")
        yield self.url(name)
        await self._execute(f"DROP DATABASE {name} WITH (FORCE)")

    async def _execute(self, *statements: str) -> None:
        connection = await asyncpg.connect(self.url("postgres"))
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()


@pytest.fixture(scope="session")
async def cluster() -> AsyncIterator[Cluster]:
    with scratch_state_dir() as state_dir:
        async with embedded(state_dir, want_redis=False) as servers:
            made = Cluster(servers.database_url)
            await made.prepare()
            yield made


@pytest.fixture
async def database_url(cluster: Cluster) -> AsyncIterator[str]:
    """A migrated database that no other test uses."""
    async with cluster.database() as url:
        yield url


@pytest.fixture
async def empty_database_url(cluster: Cluster) -> AsyncIterator[str]:
    """A database without a table."""
    async with cluster.database("template0") as url:
        yield url
