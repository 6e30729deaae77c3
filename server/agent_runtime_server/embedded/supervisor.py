"""Keep the embedded servers running until told to stop."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable

from agent_runtime_server.embedded.errors import EmbeddedError
from agent_runtime_server.embedded.lock import DirectoryLock, Holding
from agent_runtime_server.embedded.processes import POLL, stop_child, tail
from agent_runtime_server.embedded.servers import Server

START_SECONDS = 60.0
STANDBY_POLL = 0.1
RESTART_PAUSE = 1.0

Announce = Callable[[Server, Holding], None]


async def keep(server: Server, holder_pid: int, announce: Announce) -> None:
    """Hold one server's directory and run the server; while another process holds it, stand by to take over.

    `announce` is called each time the server has become ready, whoever runs it.
    """
    server.place.make()
    with DirectoryLock(server.place.home / "lock") as lock:
        joined = await _stand_by(server, lock, announce)
        await _run_forever(server, lock, holder_pid, announce, must_start=not joined)


async def _stand_by(server: Server, lock: DirectoryLock, announce: Announce) -> bool:
    """Return when the lock is ours: whether we used another's server until then."""
    joined = False
    while not lock.take():
        if not joined and (holding := lock.holding()) is not None:
            announce(server, holding)
            joined = True
        await asyncio.sleep(STANDBY_POLL if joined else POLL)
    return joined


async def _run_forever(
    server: Server, lock: DirectoryLock, holder_pid: int, announce: Announce, *, must_start: bool
) -> None:
    """Start the server again whenever it ends; only the very first start may fail."""
    while True:
        try:
            async with _running(server) as process:
                holding = Holding(server.url, holder_pid, os.getpid(), process.pid)
                lock.publish(holding)
                announce(server, holding)
                must_start = False
                await process.wait()
        except EmbeddedError:
            if must_start:
                raise
        finally:
            lock.withdraw()
        await asyncio.sleep(RESTART_PAUSE)


@contextlib.asynccontextmanager
async def _running(server: Server) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the server while the context lasts; entered when it is ready."""
    await server.prepare()
    process = await server.place.spawn(*server.command())
    try:
        await _until_ready(server, process)
        yield process
    finally:
        await stop_child(process, server.stop_signals)


async def _until_ready(server: Server, process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(START_SECONDS):
            while process.returncode is None:
                if await server.is_ready(process.pid):
                    return
                await asyncio.sleep(POLL)
    said = tail(server.place.log)
    raise EmbeddedError(f"the embedded {server.name} did not start; the end of {server.place.log}:\n{said}")
