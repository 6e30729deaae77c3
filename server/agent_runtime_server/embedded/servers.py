"""What the supervisor needs to know of a server, and the part that both servers share."""

import asyncio
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from agent_runtime_server.embedded.accounts import Account, give, spawn_identity

LARGEST_LOG = 1_000_000


@dataclass(frozen=True)
class Place:
    """Where one server lives: its home in the state directory, the sockets, and whom it runs as."""

    home: Path
    sockets: Path
    install_dir: Path
    account: Account | None

    @property
    def data(self) -> Path:
        """The server's own directory."""
        return self.home / "data"

    @property
    def log(self) -> Path:
        """What the server writes to its standard output and error."""
        return self.home / "log"

    async def spawn(self, *command: str | Path) -> asyncio.subprocess.Process:
        """Start a command as the account, its output going to the log."""
        self.log.touch(mode=0o600)
        with self.log.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                **spawn_identity(self.account),
            )

    def make(self) -> None:
        """Create the home, and set an overlong log aside."""
        self.home.mkdir(mode=0o711, exist_ok=True)
        if self.log.exists() and self.log.stat().st_size > LARGEST_LOG:
            self.log.rename(self.log.with_suffix(".old"))

    def make_data(self) -> None:
        """Create an empty data directory."""
        self.data.mkdir(mode=0o700, exist_ok=True)
        give(self.data, self.account)


class Server(Protocol):
    """A server that the supervisor keeps running."""

    name: str
    url: str
    place: Place
    stop_signals: Sequence[signal.Signals]

    async def prepare(self) -> None:
        """Make the data if there is none, and clear away what a crash left."""
        ...

    def command(self) -> list[str | Path]:
        """Return the command that runs the server in the foreground."""
        ...

    async def is_ready(self, pid: int, /) -> bool:
        """Tell whether the server with this process id answers."""
        ...
