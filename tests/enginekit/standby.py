"""A streaming read replica of the tests' Postgres, from the same binaries."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import asyncpg
import pytest

from agent_runtime_server.embedded import scratch_state_dir
from agent_runtime_server.embedded.accounts import give, server_account
from agent_runtime_server.embedded.binaries import find_postgres
from agent_runtime_server.embedded.directories import make_private
from agent_runtime_server.embedded.postgres import Postgres
from agent_runtime_server.embedded.processes import stop_child
from agent_runtime_server.embedded.servers import Place
from agent_runtime_server.embedded.supervisor import _until_ready
from enginekit.postgres import Cluster


@dataclass
class Standby:
    """One replica: it can be killed, started again, and told not to replay."""

    place: Place
    server: Postgres = field(init=False)
    _process: asyncio.subprocess.Process | None = None

    def __post_init__(self) -> None:
        self.server = Postgres(self.place)

    def url(self, primary: str) -> str:
        """Return the URL under which it has the database of another one."""
        return urlsplit(primary)._replace(query=urlencode({"host": str(self.place.sockets)})).geturl()

    async def start(self) -> None:
        """Start it and wait until it answers."""
        await self.server.prepare()
        self._process = await self.place.spawn(*self.server.command())
        await _until_ready(self.server, self._process)

    async def kill(self) -> None:
        """Kill it as a crash would."""
        assert self._process is not None, "it was started"
        await stop_child(self._process, self.server.stop_signals[1:])

    async def pause(self, primary: str) -> None:
        """Let it receive what the primary writes, but not replay it."""
        await self._run(primary, "SELECT pg_wal_replay_pause()")

    async def resume(self, primary: str) -> None:
        """Let it replay."""
        await self._run(primary, "SELECT pg_wal_replay_resume()")

    async def until_it_has(self, primary: str) -> None:
        """Wait until it has replayed what the primary has written so far."""
        connection = await asyncpg.connect(primary)
        position = await connection.fetchval("SELECT pg_current_wal_flush_lsn()::text")
        await connection.close()
        async with asyncio.timeout(60):
            while not await self._has(primary, position):  # noqa: ASYNC110 - Postgres tells nobody
                await asyncio.sleep(0.02)

    async def _has(self, primary: str, position: str) -> bool:
        try:
            connection = await asyncpg.connect(self.url(primary))
        except (OSError, asyncpg.PostgresError):  # the database has not come so far
            return False
        try:
            found: bool = await connection.fetchval("SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn", position)
        finally:
            await connection.close()
        return found

    async def _run(self, primary: str, statement: str) -> None:
        connection = await asyncpg.connect(self.url(primary))
        await connection.execute(statement)
        await connection.close()


@asynccontextmanager
async def standby(primary: str) -> AsyncIterator[Standby]:
    """Run a replica of a whole cluster, given the URL of one of its databases."""
    with scratch_state_dir() as directory:
        account = server_account(directory)
        place = Place(directory / "postgres", make_private(directory / "run", account), directory / "install", account)
        place.make()
        await _back_up(primary, place.data)
        for path in (place.data, *place.data.rglob("*")):
            give(path, account)
        made = Standby(place)
        await made.start()
        yield made
        await made.kill()


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
