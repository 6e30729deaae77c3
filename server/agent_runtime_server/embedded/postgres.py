"""The embedded Postgres: one cluster with the database `agent_runtime`, reached by a unix socket only."""

import asyncio
import os
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path

from agent_runtime_server.embedded.accounts import give, spawn_identity
from agent_runtime_server.embedded.binaries import Program, find_postgres, major_of
from agent_runtime_server.embedded.errors import EmbeddedError
from agent_runtime_server.embedded.processes import stop_child, stop_orphan
from agent_runtime_server.embedded.servers import Place

DATABASE = "agent_runtime"
USER = "agent_runtime"
SETTINGS = {
    "max_connections": "100",
    "shared_buffers": "64MB",
    "max_wal_size": "512MB",
    "wal_level": "replica",
    "fsync": "on",
    "synchronous_commit": "on",
    "log_min_messages": "log",  # statements' errors reach their caller; here they would only fill the disk
    "log_checkpoints": "off",
    "timezone": "UTC",
}
SYNC_LATER = ("-c", "fsync=off")  # while it is being made; it is synced as a whole before it is used


class Postgres:
    """A Postgres cluster in a directory."""

    name = "postgres"
    stop_signals: Sequence[signal.Signals] = (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL)

    def __init__(self, place: Place) -> None:
        self.place = place
        self.url = f"postgresql://{USER}@/{DATABASE}?host={place.sockets}"
        self._program: Program | None = None

    @property
    def program(self) -> Program:
        """The Postgres in use; that of the data's major."""
        if self._program is None:
            found = find_postgres(self._recorded_major())
            self._program = found.for_account(self.place.account, self.place.install_dir)
        return self._program

    async def prepare(self) -> None:
        """Make the cluster if there is none, and clear away what a crash left."""
        if not self.place.data.exists():
            await self._create_cluster()
        pid_file = self.place.data / "postmaster.pid"
        await stop_orphan(pid_file, "postgres", self.place.data, self.stop_signals)
        pid_file.unlink(missing_ok=True)  # its process id may belong to anyone by now
        for left in self.place.sockets.glob(".s.PGSQL.*"):
            left.unlink()

    def command(self) -> list[str | Path]:
        """Return the command that runs the server in the foreground."""
        options = {"listen_addresses": "", "unix_socket_directories": str(self.place.sockets), **SETTINGS}
        flags = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        return [self.program.bin_dir / "postgres", "-D", self.place.data, *flags]

    async def is_ready(self, pid: int, /) -> bool:
        """Tell whether the server says that it accepts connections, as pg_ctl does."""
        try:
            lines = (self.place.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"

    def _recorded_major(self) -> int | None:
        try:
            return major_of((self.place.data / "PG_VERSION").read_text())
        except FileNotFoundError:
            return None

    async def _create_cluster(self) -> None:
        """Make it aside and move it into place when complete, so that a crash leaves no half of one."""
        home = self.place.home
        for left in home.glob("data.*"):
            shutil.rmtree(left, ignore_errors=True)
        fresh = home / f"data.{os.getpid()}"
        fresh.mkdir(mode=0o700)
        give(fresh, self.place.account)
        await self._run(
            "initdb", "-D", fresh, "-U", USER, "--auth=trust", "-E", "UTF8", "--no-sync", "--no-instructions",
            "--locale-provider=builtin", "--locale=C.UTF-8",
        )  # fmt: skip
        create = f"CREATE DATABASE {DATABASE}\n"
        await self._run("postgres", "--single", "-D", fresh, *SYNC_LATER, "postgres", stdin=create)
        await self._run("initdb", "--sync-only", "-D", fresh)
        fresh.rename(self.place.data)

    async def _run(self, command: str, *arguments: str | Path, stdin: str = "") -> None:
        process = await asyncio.create_subprocess_exec(
            self.program.bin_dir / command,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd="/",
            **spawn_identity(self.place.account),
        )
        try:
            said, _ = await process.communicate(stdin.encode())
        finally:
            await stop_child(process, (signal.SIGKILL,))
        if process.returncode:
            raise EmbeddedError(f"{command} failed: {said.decode(errors='replace').strip()}")
