"""A Postgres that one test may kill and start again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from agent_runtime_server.embedded import scratch_state_dir
from agent_runtime_server.embedded.accounts import server_account
from agent_runtime_server.embedded.directories import make_private
from agent_runtime_server.embedded.postgres import Postgres
from agent_runtime_server.embedded.processes import stop_child
from agent_runtime_server.embedded.servers import Place
from agent_runtime_server.embedded.supervisor import _until_ready
from agent_runtime_server.stores.postgres.database import open_database
from agent_runtime_server.stores.postgres.migrations import migrate
from enginekit.ready_made import begin_with_postgres_data


class OwnPostgres:
    """One server of the embedded binaries."""

    def __init__(self, place: Place, **settings: str) -> None:
        self.place = place
        self._settings = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        self._server = Postgres(place)
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """Where it is reached."""
        return self._server.url

    async def start(self) -> None:
        """Start it and wait until it answers."""
        await self._server.prepare()
        self._process = await self.place.spawn(*self._server.command(), *self._settings)
        await _until_ready(self._server, self._process)

    async def crash(self) -> None:
        """End it at once, as a crash would."""
        assert self._process is not None, "it was started"
        await stop_child(self._process, self._server.stop_signals[1:])


@asynccontextmanager
async def own_place() -> AsyncIterator[Place]:
    """Yield a place for one server."""
    with scratch_state_dir() as directory:
        account = server_account(directory)
        place = Place(directory / "postgres", make_private(directory / "run", account), directory / "install", account)
        place.make()
        yield place


@asynccontextmanager
async def own_postgres(**settings: str) -> AsyncIterator[OwnPostgres]:
    """Run a server with a migrated database; settings go before those it has as an embedded one."""
    async with own_place() as place:
        begin_with_postgres_data(place.home.parent)
        made = OwnPostgres(place, **settings)
        await made.start()
        try:
            async with open_database(made.url) as database:
                await migrate(database)
            yield made
        finally:
            await made.crash()
