"""Start the embedded servers for this process, by a supervisor child that ends with it."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from agent_runtime_server.embedded.directories import default_state_dir
from agent_runtime_server.embedded.errors import EmbeddedError

STOP_SECONDS = 45.0


@dataclass(frozen=True)
class Embedded:
    """The servers in use; the URL of one that was not wanted is empty."""

    database_url: str
    redis_url: str
    joined: bool
    """Whether another process had started one of them."""
    holder_pid: int
    """That process, or this one."""


@asynccontextmanager
async def embedded(
    state_dir: Path | None = None, *, want_postgres: bool = True, want_redis: bool = True
) -> AsyncIterator[Embedded]:
    """Run Postgres and Valkey on a state directory, or join those that another process runs on it.

    Must be entered before gRPC starts, because it starts a child process. When the process whose servers
    were joined ends, ours takes them over at the same addresses.
    """
    wanted = [name for name, want in (("postgres", want_postgres), ("valkey", want_redis)) if want]
    if not wanted:
        yield Embedded("", "", joined=False, holder_pid=os.getpid())
        return
    state_dir = state_dir or default_state_dir()
    supervisor = await _start_supervisor(state_dir, wanted)
    try:
        yield await _report(supervisor)
    finally:
        if await _stop(supervisor) < 0:  # it was killed, so its servers still run: another one stops them
            supervisor = await _start_supervisor(state_dir, wanted)
            await _report(supervisor)
            await _stop(supervisor)


async def _start_supervisor(state_dir: Path, wanted: list[str]) -> asyncio.subprocess.Process:
    if os.name != "posix":
        raise EmbeddedError(
            "the embedded servers need Linux or macOS: set AGENT_RUNTIME_DATABASE_URL and AGENT_RUNTIME_REDIS_URL"
        )
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "agent_runtime_server.embedded", str(state_dir), *wanted),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,  # a Ctrl-C in the terminal is for us: the servers go last
    )


async def _report(supervisor: asyncio.subprocess.Process) -> Embedded:
    assert supervisor.stdout is not None
    line = await supervisor.stdout.readline()
    if not line:
        raise EmbeddedError("the supervisor of the embedded servers ended without a word")
    said = json.loads(line)
    if "error" in said:
        raise EmbeddedError(said["error"])
    holders = [server["holder_pid"] for server in said.values() if server["supervisor_pid"] != supervisor.pid]
    return Embedded(
        database_url=said.get("postgres", {}).get("url", ""),
        redis_url=said.get("valkey", {}).get("url", ""),
        joined=bool(holders),
        holder_pid=holders[0] if holders else os.getpid(),
    )


async def _stop(supervisor: asyncio.subprocess.Process) -> int:
    """Close its standard input, which is what it waits for, and return how it ended."""
    assert supervisor.stdin is not None
    supervisor.stdin.close()
    try:
        return await asyncio.wait_for(supervisor.wait(), STOP_SECONDS)
    except TimeoutError:
        supervisor.kill()
        return await supervisor.wait()
