"""Start, recognize and stop server processes, our own children and orphans of a dead supervisor."""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from agent_runtime_server.embedded.errors import EmbeddedError

POLL = 0.01
GRACE = 10.0
"""Seconds that a server is given for each signal."""


def command_line(pid: int) -> str:
    """Return the command line of a process; empty when there is none or it is dead."""
    if Path("/proc/self/cmdline").exists():
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            return ""
    said = subprocess.run(["ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True)  # noqa: S603, S607
    return said.stdout


def first_line_pid(path: Path) -> int | None:
    """Return the process id that a pid file starts with."""
    try:
        return int(path.read_text().split("\n", 1)[0])
    except (OSError, ValueError):
        return None


async def stop_orphan(pid_file: Path, command: str, directory: Path, signals: Sequence[signal.Signals]) -> None:
    """Stop the server that a pid file names, if it is `command` on `directory` and not a process that reuses the id."""
    pid = first_line_pid(pid_file)
    if pid is None or pid == os.getpid():
        return

    def is_ours() -> bool:
        line = command_line(pid) + " "
        return f"/{command} " in line and f" {directory} " in line

    for number in signals:
        if not is_ours():
            return
        try:
            os.kill(pid, number)
        except PermissionError:
            raise EmbeddedError(f"process {pid} of another user still serves {directory}") from None
        except ProcessLookupError:
            return
        if await _becomes_false(is_ours, GRACE):
            return


async def stop_child(process: asyncio.subprocess.Process, signals: Sequence[signal.Signals]) -> None:
    """Stop our own child, more firmly with each signal."""
    for number in signals:
        if process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
        try:
            await asyncio.wait_for(process.wait(), GRACE)
        except TimeoutError:
            continue


def tail(path: Path, lines: int = 5) -> str:
    """Return the end of a log file."""
    try:
        return "\n".join(path.read_text(errors="replace").strip().splitlines()[-lines:])
    except OSError:
        return ""


async def _becomes_false(condition: Callable[[], bool], seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            while True:
                if not condition():
                    return True
                await asyncio.sleep(POLL)
    except TimeoutError:
        return False
