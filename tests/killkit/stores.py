"""A Postgres and a Valkey that can be killed and started again at the same addresses."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from agent_runtime_server.embedded.accounts import server_account
from agent_runtime_server.embedded.directories import make_state_dir, socket_dir
from agent_runtime_server.embedded.postgres import Postgres
from agent_runtime_server.embedded.processes import stop_child
from agent_runtime_server.embedded.servers import Place, Server
from agent_runtime_server.embedded.valkey import Valkey
from enginekit.ready_made import begin_with_postgres_data

_START_SECONDS: Final = 60
_POLL_SECONDS: Final = 0.01


class MortalStore:
    """One store as a child of this process."""

    def __init__(self, server: Server) -> None:
        self.url = server.url
        self._server = server
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it and return when it answers."""
        async with asyncio.timeout(_START_SECONDS):
            while not await self._try_start():  # what a killed one left may still be in use for a moment
                pass

    async def kill(self) -> None:
        """Kill it as the kernel would."""
        assert self._process is not None, "it was started"
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    async def stop(self) -> None:
        """Stop it for good."""
        if self._process is not None:
            await stop_child(self._process, self._server.stop_signals)

    async def _try_start(self) -> bool:
        await self._server.prepare()
        process = self._process = await self._server.place.spawn(*self._server.command())
        while process.returncode is None:
            if await self._server.is_ready(process.pid):
                return True
            await asyncio.sleep(_POLL_SECONDS)
        return False


@asynccontextmanager
async def mortal_stores(state_dir: Path) -> AsyncIterator[tuple[MortalStore, MortalStore]]:
    """Run a Postgres and a Valkey on a state directory while the block runs."""
    account = server_account(state_dir)
    home = make_state_dir(state_dir, account)
    sockets = socket_dir(home, account)
    places = [Place(home / name, sockets, home / "install", account) for name in ("postgres", "valkey")]
    for place in places:
        place.make()
    begin_with_postgres_data(home)
    postgres, valkey = MortalStore(Postgres(places[0])), MortalStore(Valkey(places[1]))
    try:
        await postgres.start()
        await valkey.start()
        yield postgres, valkey
    finally:
        await valkey.stop()
        await postgres.stop()
        _remove_empty(sockets)


def _remove_empty(sockets: Path) -> None:
    """Leave no directory of sockets behind outside the state directory."""
    for left in sockets.glob("*") if sockets.exists() else ():
        left.unlink(missing_ok=True)
    if sockets.exists() and not any(os.scandir(sockets)):
        sockets.rmdir()
