"""One pool of connections to one Postgres, and the seam at which asyncpg's exceptions stop."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from agent_runtime_server.core.errors import StoreUnavailable
from agent_runtime_server.core.observe import Nobody, Observer
from agent_runtime_server.stores.postgres.sockets import SERVER_SIDE, notice_dead_peers

if TYPE_CHECKING:
    Connection = PoolConnectionProxy[asyncpg.Record]
    _Connection = asyncpg.Connection[asyncpg.Record]
else:
    Connection = PoolConnectionProxy
    _Connection = asyncpg.Connection

_ACQUIRE_SECONDS: Final = 5.0
_STATEMENT_SECONDS: Final = 10  # then Postgres cancels it, so that nothing is committed long after it was given up
_ANSWER_SECONDS: Final = 12.0  # then the connection is given up

_LOST = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # it was told that it is cut, and not cut yet, when something was asked on it
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.IdleSessionTimeoutError,
)
_REFUSED = (
    asyncpg.OperatorInterventionError,  # crash recovery, still starting, cancelled for taking too long
    asyncpg.InsufficientResourcesError,
    asyncpg.ReadOnlySQLTransactionError,  # the primary has moved
)


class Unreached(StoreUnavailable):
    """No connection was to be had, so nothing was asked."""


class Lost(StoreUnavailable):
    """The connection broke before the answer: what was asked may have been done."""


@contextmanager
def mapped_errors() -> Iterator[None]:
    """Turn asyncpg's ways of saying that Postgres is away into StoreUnavailable."""
    try:
        yield
    except (TimeoutError, *_LOST) as error:
        raise Lost(_unavailable(error)) from error
    except _REFUSED as error:
        raise StoreUnavailable(_unavailable(error)) from error


@contextmanager
def reaching() -> Iterator[None]:
    """Turn whatever keeps us from a connection into Unreached: also that there is no such database, or user."""
    try:
        yield
    except (TimeoutError, *_LOST, asyncpg.PostgresError) as error:
        raise Unreached(_unavailable(error)) from error


def _unavailable(error: Exception) -> str:
    return f"the database is unavailable ({type(error).__name__})"


class PooledConnection(_Connection):
    """A connection whose end is no failure, however it comes: a pool that replaces one listens to no answer."""

    async def close(self, *, timeout: float | None = None) -> None:
        """Take leave of Postgres where it is there; what is cut is closed all the same."""
        with suppress(OSError):
            await super().close(timeout=timeout)


async def _keep_session_state(_connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Do nothing at release: no statement here leaves state on its connection."""


class Database:
    """A pool of connections to one Postgres."""

    def __init__(self, pool: "asyncpg.Pool[asyncpg.Record]", name: str, observer: Observer) -> None:
        self.name = name
        self._pool = pool
        self._observer = observer
        self._waiting = 0

    @property
    def size(self) -> int:
        """Number of connections."""
        return self._pool.get_size()

    @property
    def idle(self) -> int:
        """Number of connections that nobody uses now."""
        return self._pool.get_idle_size()

    @property
    def waiting(self) -> int:
        """Number of callers that wait for a connection now."""
        return self._waiting

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Lend a connection; who shares the pool with others never holds one across anything but its statements."""
        connection = await self._acquire()
        try:
            with mapped_errors():
                yield connection
        except Lost:
            with suppress(asyncpg.InterfaceError):  # it has ended already
                connection.terminate()  # waiting for its end could take as long as waiting for the answer did
            await self._pool.expire_connections()  # what cut this one has perhaps cut them all
            raise
        finally:
            with suppress(TimeoutError, *_LOST):
                await self._pool.release(connection)

    async def _acquire(self) -> Connection:
        started = monotonic()
        self._waiting += 1
        try:
            with reaching():
                connection = await self._pool.acquire(timeout=_ACQUIRE_SECONDS)
        finally:
            self._waiting -= 1
        self._observer.connection_acquired(self.name, monotonic() - started)
        return connection

    async def fetch(self, sql: str, *arguments: Any) -> Sequence[asyncpg.Record]:
        """Return the rows of one statement."""
        async with self.connection() as connection:
            return await connection.fetch(sql, *arguments)

    async def fetchrow(self, sql: str, *arguments: Any) -> asyncpg.Record | None:
        """Return the first row of one statement, or None."""
        rows = await self.fetch(sql, *arguments)
        return rows[0] if rows else None

    async def read(self, sql: str, *arguments: Any) -> Sequence[asyncpg.Record]:
        """Return the rows of a statement that may run twice: once more when its connection turns out to be cut."""
        try:
            return await self.fetch(sql, *arguments)
        except Lost as lost:
            if isinstance(lost.__cause__, TimeoutError):
                raise
        return await self.fetch(sql, *arguments)

    async def read_row(self, sql: str, *arguments: Any) -> asyncpg.Record | None:
        """Return the first row of a statement that may run twice, or None."""
        rows = await self.read(sql, *arguments)
        return rows[0] if rows else None

    async def probe(self) -> None:
        """Raise StoreUnavailable unless Postgres answers."""
        await self.read("SELECT 1")


@asynccontextmanager
async def open_database(
    url: str,
    *,
    name: str = "primary",
    least_connections: int = 1,
    most_connections: int = 8,
    idle_seconds: float = 60,
    answer_seconds: float | None = None,
    observer: Observer | None = None,
) -> AsyncIterator[Database]:
    """Connect to Postgres at `url` (TCP or unix socket) and close the pool in the end.

    The pool begins with `least_connections` (with 0 it opens although Postgres is away), grows with what is asked at
    the same time, and closes what was idle for `idle_seconds` (0: never). An answer that takes longer than
    `answer_seconds` is not waited for.
    """
    with reaching():
        pool = await asyncpg.create_pool(
            url,
            init_size=least_connections,
            min_size=0,  # else asyncpg warns with a traceback, again and again, while Postgres is away
            max_size=most_connections,
            command_timeout=answer_seconds or _ANSWER_SECONDS,
            timeout=_ACQUIRE_SECONDS,
            max_inactive_connection_lifetime=idle_seconds,
            connection_class=PooledConnection,
            init=notice_dead_peers,
            reset=_keep_session_state,
            server_settings={
                "application_name": "agent-runtime",
                "jit": "off",
                "statement_timeout": f"{_STATEMENT_SECONDS}s",
                **SERVER_SIDE,
            },
        )
    database = Database(pool, name, observer or Nobody())
    _watch(database, observer or Nobody())
    try:
        yield database
    finally:
        await _close(pool)


def _watch(database: Database, observer: Observer) -> None:
    observer.watch("database_pool_size", "Open connections.", lambda: database.size, pool=database.name)
    observer.watch("database_pool_idle", "Connections nobody uses now.", lambda: database.idle, pool=database.name)
    observer.watch(
        "database_pool_waiting", "Callers that wait for a connection.", lambda: database.waiting, pool=database.name
    )


async def _close(pool: "asyncpg.Pool[asyncpg.Record]") -> None:
    try:
        async with asyncio.timeout(3):
            await pool.close()
    except (TimeoutError, *_LOST, *_REFUSED):
        pool.terminate()
