"""The embedded Valkey: an append-only file, and a unix socket only."""

import asyncio
import signal
from collections.abc import Sequence
from pathlib import Path

from agent_runtime_server.embedded.binaries import find_valkey
from agent_runtime_server.embedded.processes import stop_orphan
from agent_runtime_server.embedded.servers import Place

SETTINGS = {
    "port": "0",
    "unixsocketperm": "700",
    "daemonize": "no",
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": "",
    "maxmemory-policy": "noeviction",
    "set-proc-title": "no",  # an orphan is recognized by its command line
}


class Valkey:
    """A Valkey, or a Redis where that is what the system has."""

    name = "valkey"
    stop_signals: Sequence[signal.Signals] = (signal.SIGTERM, signal.SIGKILL)

    def __init__(self, place: Place) -> None:
        self.place = place
        self._socket = place.sockets / "valkey.sock"
        self._pid_file = place.home / "data" / "pid"
        self.url = f"unix://{self._socket}"
        program, self._command = find_valkey()
        self._program = program.for_account(place.account, place.install_dir)

    async def prepare(self) -> None:
        """Make the data directory if there is none, and clear away what a crash left."""
        self.place.make_data()
        await stop_orphan(self._pid_file, self._command, self.place.data, self.stop_signals)
        self._pid_file.unlink(missing_ok=True)
        self._socket.unlink(missing_ok=True)

    def command(self) -> list[str | Path]:
        """Return the command that runs the server in the foreground."""
        options = {"dir": str(self.place.data), "unixsocket": str(self._socket), "pidfile": str(self._pid_file)}
        flags = [word for name, value in (options | SETTINGS).items() for word in (f"--{name}", value)]
        return [self._program.bin_dir / self._command, *flags]

    async def is_ready(self, _pid: int, /) -> bool:
        """Tell whether the server answers a PING; it does not while it still reads its data."""
        try:
            reader, writer = await asyncio.open_unix_connection(self._socket)
        except OSError:
            return False
        try:
            writer.write(b"PING\r\n")
            return await reader.readline() == b"+PONG\r\n"
        except OSError:
            return False
        finally:
            writer.close()
