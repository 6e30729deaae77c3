"""A server of one's own: started as a child process that cannot outlive this one."""

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Final

from agent_runtime_client.terminal.failures import CommandFailed

_READY: Final = re.compile(rb"agent-runtime serving on (\S+:\d+)\s*")
_START_SECONDS: Final = 90.0
_STOP_SECONDS: Final = 40.0
_KEPT_LOGS: Final = 10


@asynccontextmanager
async def own_server() -> AsyncIterator[str]:
    """Serve on a free port of this machine; the target. The server stops when this process ends, however it ends."""
    log_path = _log_path()
    with log_path.open("wb") as log:
        process = await _start(log)
        try:
            yield await _ready(process, log_path)
        finally:
            await _stop(process)


async def _start(log: IO[bytes]) -> asyncio.subprocess.Process:
    command = [sys.executable, "-m", "agent_runtime_cli", "serve"]
    options = ["--port", "0", "--metrics-port", "0", "--stop-on-stdin-close"]
    # A session of its own: Ctrl-C is for the chat. Its standard input is what ties its life to ours.
    return await asyncio.create_subprocess_exec(
        *command,
        *options,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=log,
        env={**os.environ, "AGENT_RUNTIME_AUTH_MODE": "off"},  # it is for this program alone, which has no key
        start_new_session=True,
    )


async def _ready(process: asyncio.subprocess.Process, log_path: Path) -> str:
    if process.stdout is None:
        raise RuntimeError("the server was started without a pipe for its output")
    try:
        async with asyncio.timeout(_START_SECONDS):
            async for line in process.stdout:
                if found := _READY.fullmatch(line):
                    return found[1].decode()
    except TimeoutError:
        raise CommandFailed(f"the server was not ready in {_START_SECONDS:.0f} s; see {log_path}") from None
    status = await process.wait()
    raise CommandFailed(f"the server ended with status {status} at its start: {_last_line(log_path)} (see {log_path})")


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(_STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


def state_dir() -> Path:
    """Where this machine's user keeps the state of the programs."""
    named = os.environ.get("AGENT_RUNTIME_STATE_DIR")
    if named:
        return Path(named).expanduser()
    base = Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser()
    return base / "agent-runtime"


def _log_path() -> Path:
    folder = state_dir() / "logs"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for old in sorted(folder.glob("serve-*.log"), key=lambda file: file.stat().st_mtime)[:-_KEPT_LOGS]:
            old.unlink(missing_ok=True)
    except OSError as error:
        raise CommandFailed(f"cannot write to {folder}: {error.strerror}; set AGENT_RUNTIME_STATE_DIR") from error
    return folder / f"serve-{os.getpid()}.log"


def _last_line(log_path: Path) -> str:
    lines = [line for line in log_path.read_text("utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"
