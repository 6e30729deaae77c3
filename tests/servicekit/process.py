"""A real server: the command `agent-runtime serve` in a process of its own."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from agent_runtime_server.embedded import scratch_state_dir
from enginekit.ready_made import begin_with_postgres_data
from servicekit.ports import free_port

_READY: Final = b"agent-runtime serving on "
_START_SECONDS: Final = 60
_STOP_SECONDS: Final = 40

PROGRAM: Final = ("agent_runtime_cli",)
"""The module that is run, and what stands before the command."""

IN_A_HURRY: Final = {
    "AGENT_RUNTIME_LEASE_SECONDS": "2",
    "AGENT_RUNTIME_HEARTBEAT_SECONDS": "1",
    "AGENT_RUNTIME_DRAIN_SECONDS": "2",
    "AGENT_RUNTIME_LOG_LEVEL": "WARNING",
}
"""Settings under which nothing takes long."""


class ServerFailed(Exception):
    """The server did not start or stop as it should; the text has the end of its log."""


class ServerProcess:
    """One server on one state directory; killed and started again it keeps its port."""

    def __init__(
        self, state_dir: Path, settings: Mapping[str, str], *options: str, program: Sequence[str] = PROGRAM
    ) -> None:
        self.state_dir = state_dir
        self.target = ""
        self.options = options
        self._program = program
        self._port = free_port()
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("AGENT_RUNTIME_")}
        self._env = {**inherited, **IN_A_HURRY, "AGENT_RUNTIME_STATE_DIR": str(state_dir), **settings}
        self._log = state_dir / "serve.log"
        self._process: asyncio.subprocess.Process | None = None
        self._serves = False

    @property
    def runs(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.returncode is None

    @property
    def ready(self) -> bool:
        """Whether the process is there, has said that it serves, and was not asked to end."""
        return self.runs and self._serves

    @property
    def fell(self) -> bool:
        """Whether the process has ended although nobody asked it to and nobody killed it."""
        return self._serves and not self.runs

    @property
    def pid(self) -> int:
        """The process."""
        assert self._process is not None, "it was started"
        return self._process.pid

    def signal(self, number: signal.Signals) -> None:
        """Send the process a signal."""
        # Not by the process itself, which would take its status from who waits for it when it has just died.
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    async def start(self) -> None:
        """Start serving and return when it is ready."""
        self._serves = False
        command = [sys.executable, "-m", *self._program, "serve", "--stop-on-stdin-close"]
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *command,
                *("--port", str(self._port), *(self.options or ("--metrics-port", "0"))),
                stdin=asyncio.subprocess.PIPE,  # its end ends the server, so none outlives the tests
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=self._env,
                cwd=self.state_dir,  # where there is no .env
            )
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(_START_SECONDS):
                line = await self._process.stdout.readline()
        except TimeoutError:
            await self.kill()
            raise ServerFailed(f"not ready after {_START_SECONDS} s:\n{self.log()}") from None
        if not line.startswith(_READY):
            raise ServerFailed(f"ended with status {await self._process.wait()}:\n{self.log()}")
        self.target = line.removeprefix(_READY).decode().strip()
        self._serves = True

    async def kill(self) -> None:
        """Kill the server's process, and only that: what it started has to end by itself."""
        self._serves = False
        if self._process is not None and self.runs:
            self.signal(signal.SIGKILL)
            await self._process.wait()

    async def stop(self) -> int:
        """Ask the server to end by SIGTERM and return its status."""
        assert self._process is not None, "it was started"
        self._serves = False
        if self.runs:
            self.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                return await self._process.wait()
        except TimeoutError:
            await self.kill()
            raise ServerFailed(f"still there {_STOP_SECONDS} s after SIGTERM:\n{self.log()}") from None

    def log(self) -> str:
        """Return the end of what the server logged."""
        return self._log.read_text("utf-8", errors="replace")[-4000:]

    def faults(self) -> list[str]:
        """Return what the server has logged as faults of its own."""
        lines = self._log.read_text("utf-8", errors="replace").splitlines()
        return [line for line in lines if '"level": "error"' in line or line.startswith("Traceback")]


@asynccontextmanager
async def serving(
    settings: Mapping[str, str], *options: str, program: Sequence[str] = PROGRAM
) -> AsyncIterator[ServerProcess]:
    """Run a server with its own databases while the block runs."""
    with scratch_state_dir() as state_dir:
        if "AGENT_RUNTIME_DATABASE_URL" not in settings:
            begin_with_postgres_data(state_dir)
        server = ServerProcess(state_dir, settings, *options, program=program)
        await server.start()
        try:
            yield server
        finally:
            await server.stop()
