"""The connection pool, and the seam at which asyncpg's exceptions stop."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from agent_runtime_server.core.errors import StoreUnavailable

if TYPE_CHECKING:
    Connection = PoolConnectionProxy[asyncpg.Record]
else:
    Connection = PoolConnectionProxy

_UNREACHABLE = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # shutdown, crash recovery, still starting
    asyncpg.InsufficientResourcesError,
    asyncpg.ReadOnlySQLTransactionError,  # the primary has moved
)


@contextmanager
def mapped_errors() -> Iterator[None]:
    """Turn asyncpg's ways of saying that Postgres is away into StoreUnavailable."""
    try:
        yield
    except _UNREACHABLE as error:
        raise StoreUnavailable(f"the database is unavailable ({type(error).__name__})") from error


async def _keep_session_state(_connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Do nothing at release: no statement here leaves state on its connection."""


class Database:
    """A pool of connections to one Postgres."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]") -> None:
        self._pool = pool

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend a connection; never hold one across anything but its statements."""
        with mapped_errors():
            async with self._pool.acquire(timeout=5) as connection:
                yield connection

    async def fetch(self, sql: str, *arguments: Any) -> Sequence[asyncpg.Record]:
        """Return the rows of one statement."""
        async with self.connection() as connection:
            return await connection.fetch(sql, *arguments)

    async def fetchrow(self, sql: str, *arguments: Any) -> asyncpg.Record | None:
        """Return the first row of one statement, or None."""
        async with self.connection() as connection:
            return await connection.fetchrow(sql, *arguments)

    async def probe(self) -> None:
        """Raise StoreUnavailable unless Postgres answers."""
        await self.fetchrow("SELECT 1")


@asynccontextmanager
async def open_database(url: str, *, most_connections: int = 8) -> AsyncIterator[Database]:
    """Connect to Postgres at `url` (TCP or unix socket) and close the pool in the end."""
    with mapped_errors():
        pool = await asyncpg.create_pool(
            url,
            min_size=1,
            max_size=most_connections,
            command_timeout=timedelta(seconds=15).total_seconds(),
            timeout=5,
            max_inactive_connection_lifetime=240,
            reset=_keep_session_state,
            server_settings={"application_name": "agent-runtime", "jit": "off"},
        )
    try:
        yield Database(pool)
    finally:
        await _close(pool)


async def _close(pool: "asyncpg.Pool[asyncpg.Record]") -> None:
    try:
        async with asyncio.timeout(3):
            await pool.close()
    except (TimeoutError, *_UNREACHABLE):
        pool.terminate()
