"""The supervisor: `python -m agent_runtime_server.embedded STATE_DIR [postgres] [valkey]`.

Prints one line of JSON when the servers are ready, and stops them when its standard input ends, so that they go
with the process that started it, however that one ends.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from agent_runtime_server.embedded.accounts import server_account
from agent_runtime_server.embedded.directories import check_reachable, make_state_dir, socket_dir
from agent_runtime_server.embedded.errors import EmbeddedError
from agent_runtime_server.embedded.lock import Holding
from agent_runtime_server.embedded.postgres import Postgres
from agent_runtime_server.embedded.servers import Place, Server
from agent_runtime_server.embedded.supervisor import keep
from agent_runtime_server.embedded.valkey import Valkey

KINDS: dict[str, Callable[[Place], Server]] = {"postgres": Postgres, "valkey": Valkey}


class _Stop(Exception):
    """Whoever started us is gone or has had enough."""


class _Report:
    """The one line that tells our parent where the servers are."""

    def __init__(self, servers: list[Server]) -> None:
        self._waiting = {server.name for server in servers}
        self._ready: dict[str, object] = {}

    def announce(self, server: Server, holding: Holding) -> None:
        """Note that a server is ready, and print the line after the last one."""
        self._ready.setdefault(server.name, asdict(holding))
        if self._waiting and not (self._waiting - self._ready.keys()):
            self._waiting.clear()
            print(json.dumps(self._ready), flush=True)  # noqa: T201


async def _supervise(state_dir: Path, names: list[str], holder_pid: int) -> None:
    servers = _servers(state_dir, names)
    report = _Report(servers)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_until_told())
        for server in servers:
            tasks.create_task(keep(server, holder_pid, report.announce))


def _servers(state_dir: Path, names: list[str]) -> list[Server]:
    account = server_account(state_dir)
    state_dir = make_state_dir(state_dir, account)
    if account is not None:
        check_reachable(state_dir, account)
    sockets = socket_dir(state_dir, account)
    return [KINDS[name](Place(state_dir / name, sockets, state_dir / "install", account)) for name in names]


async def _until_told() -> None:
    """Raise when the standard input ends or a signal asks us to stop."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, reader.feed_eof)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()
    raise _Stop


def _say_error(text: str) -> None:
    with contextlib.suppress(OSError):  # nobody may be left to read it
        print(json.dumps({"error": text}), flush=True)  # noqa: T201
    sys.exit(1)


def main() -> None:
    """Run the supervisor."""
    os.umask(0o022)
    if len(sys.argv) < 2 or not KINDS.keys() >= set(sys.argv[2:]):
        sys.exit(f"usage: python -m agent_runtime_server.embedded STATE_DIR [{'] ['.join(KINDS)}]")
    state_dir, names = Path(sys.argv[1]).absolute(), sys.argv[2:] or list(KINDS)
    try:
        asyncio.run(_supervise(state_dir, names, os.getppid()))
    except* _Stop:
        pass
    except* EmbeddedError as group:
        _say_error(str(group.exceptions[0]))
    except* OSError as group:
        _say_error(f"cannot use {state_dir}: {group.exceptions[0]}")


if __name__ == "__main__":
    main()
