"""A streaming read replica of the tests' Postgres, from the same binaries."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import asyncpg
import pytest

from agent_runtime_server.embedded.accounts import give
from agent_runtime_server.embedded.binaries import find_postgres
from enginekit.own_postgres import OwnPostgres, own_place
from enginekit.postgres import Cluster


class Standby(OwnPostgres):
    """One replica: it can also be told not to replay."""

    def url_of(self, primary: str) -> str:
        """Return the URL under which it has the database of another one."""
        return urlsplit(primary)._replace(query=urlencode({"host": str(self.place.sockets)})).geturl()

    async def pause(self, primary: str) -> None:
        """Let it receive what the primary writes, but not replay it."""
        await self._run(primary, "SELECT pg_wal_replay_pause()")

    async def resume(self, primary: str) -> None:
        """Let it replay."""
        await self._run(primary, "SELECT pg_wal_replay_resume()")

    async def until_it_has(self, primary: str) -> None:
        """Wait until it has replayed what the primary has written so far."""
        connection = await asyncpg.connect(primary)
        position = await connection.fetchval("SELECT pg_current_wal_insert_lsn()::text")
        await connection.close()
        async with asyncio.timeout(60):
            while not await self._has(primary, position):  # noqa: ASYNC110 - Postgres tells nobody
                await asyncio.sleep(0.02)

    async def _has(self, primary: str, position: str) -> bool:
        try:
            connection = await asyncpg.connect(self.url_of(primary))
        except (OSError, asyncpg.PostgresError):  # the database has not come so far
            return False
        try:
            found: bool = await connection.fetchval("SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn", position)
        finally:
            await connection.close()
        return found

    async def _run(self, primary: str, statement: str) -> None:
        connection = await asyncpg.connect(self.url_of(primary))
        await connection.execute(statement)
        await connection.close()


@asynccontextmanager
async def standby(primary: str) -> AsyncIterator[Standby]:
    """Run a replica of a whole cluster, given the URL of one of its databases."""
    async with own_place() as place:
        await _back_up(primary, place.data)
        for path in (place.data, *place.data.rglob("*")):
            give(path, place.account)
        made = Standby(place, fsync="off")
        await made.start()
        try:
            yield made
        finally:
            await made.crash()


@pytest.fixture(scope="session")
async def replica_server(cluster: Cluster) -> AsyncIterator[Standby]:
    """A replica of the Postgres of the tests."""
    async with standby(cluster.url("postgres")) as made:
        yield made


async def _back_up(primary: str, target: Path) -> None:
    parts = urlsplit(primary)
    host = parse_qs(parts.query)["host"][0]
    command = find_postgres(None).bin_dir / "pg_basebackup"
    flags = ("--checkpoint=fast", "--no-sync", "--wal-method=stream", "--write-recovery-conf")
    process = await asyncio.create_subprocess_exec(
        *(command, "-h", host, "-U", str(parts.username), "-D", target, *flags), stderr=asyncio.subprocess.PIPE
    )
    _, said = await process.communicate()
    assert process.returncode == 0, said.decode()
