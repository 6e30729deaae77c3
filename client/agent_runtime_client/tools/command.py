"""execute_command: a shell command in the workspace. It is NOT sandboxed.

The command runs with the user's own rights and can reach whatever the user can, inside and outside the
workspace, and the network; a human's approval is the only barrier. What is taken care of is its end: all
processes of its group are gone when the call is over, also those it left in the background. A process that
moved to a session of its own gets away.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, Final

from agent_runtime import v1
from agent_runtime_client.tools.arguments import Arguments
from agent_runtime_client.tools.content import cut
from agent_runtime_client.tools.limits import Limits
from agent_runtime_client.tools.output import HeadAndTail, Ticker
from agent_runtime_client.tools.sandbox import Sandbox

_SHELL: Final = ("/bin/sh", "-c")
_DRAIN_SECONDS: Final = 1.0
_MARGIN_SECONDS: Final = 2.0


async def execute_command(
    sandbox: Sandbox,
    limits: Limits,
    arguments: Arguments,
    deadline: float,
    progress: Callable[[str], None],
) -> v1.ToolResult:
    """Run a command with the shell; its output and errors are one text, told as progress meanwhile."""
    command = arguments.text("command")
    most = limits.command_seconds_most
    seconds = arguments.number("timeout", min(limits.command_seconds, most), low=0.001, high=most)
    # Ended before the call's own deadline, so that the output so far still arrives.
    left = deadline - asyncio.get_running_loop().time() - _MARGIN_SECONDS
    if left <= 0:
        return v1.ToolResult(
            status=v1.ToolResult.STATUS_TIMED_OUT, error_message="not started: the call's deadline is near"
        )
    seconds = min(seconds, left)
    output, ticker = HeadAndTail(limits.output_bytes), Ticker(progress, limits.progress_seconds)
    async with _pipe() as (reader, writer):
        try:
            with _working_directory(sandbox, arguments.text("cwd", ".") or ".") as directory:
                process = await _start(command, directory, writer)
        finally:
            # The command's processes alone hold this end now, so that their end is the end of the text.
            os.close(writer)
        with contextlib.closing(ticker):
            in_time = await _watch(process, _read(reader, output, ticker), seconds, limits.kill_seconds)
    return _told(process.returncode, output, seconds, in_time=in_time, limit=limits.content_bytes)


@contextlib.asynccontextmanager
async def _pipe() -> AsyncIterator[tuple[asyncio.StreamReader, int]]:
    """Open a pipe to read from; the writing end is the caller's to close.

    A pipe of asyncio's own would make the wait for a process a wait for all that hold its output.
    """
    reading, writing = os.pipe()
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reading, "rb", buffering=0)
    )
    try:
        yield reader, writing
    finally:
        transport.close()


@contextlib.contextmanager
def _working_directory(sandbox: Sandbox, path: str) -> Iterator[str]:
    """Open the directory without following links, and name it so that it cannot be swapped any more."""
    parts = sandbox.parts(path)
    with sandbox.directory(parts) as descriptor:
        pinned = f"/proc/self/fd/{descriptor}"
        yield pinned if Path(pinned).is_dir() else str(sandbox.root.joinpath(*parts))


async def _start(command: str, directory: str, output: int) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *_SHELL,
        command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=output,
        stderr=asyncio.subprocess.STDOUT,
        cwd=directory,
        env=_environment(),
        start_new_session=True,
    )


def _environment() -> dict[str, str]:
    # The service's own settings hold its keys; a command's output goes to a model.
    return {name: value for name, value in os.environ.items() if not name.startswith("AGENT_RUNTIME_")}


async def _watch(
    process: asyncio.subprocess.Process,
    read: Coroutine[Any, Any, None],
    seconds: float,
    kill_seconds: float,
) -> bool:
    """Wait for the command's end; False when its time was up. No process of its group is left."""
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(read)
        try:
            async with asyncio.timeout(seconds):
                await process.wait()
        except TimeoutError:
            return False
        finally:
            await _end(process, reading, kill_seconds)
    return True


async def _read(reader: asyncio.StreamReader, output: HeadAndTail, ticker: Ticker) -> None:
    while data := await reader.read(65536):
        output.add(data)
        ticker.add(data)


async def _end(process: asyncio.subprocess.Process, reading: "asyncio.Task[None]", seconds: float) -> None:
    try:
        if process.returncode is None:
            _signal(process, signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await process.wait()
    finally:
        # Also after a normal end: what the command left in the background goes with it.
        _signal(process, signal.SIGKILL)
    await process.wait()
    await asyncio.wait({reading}, timeout=_DRAIN_SECONDS)
    # A process that got away may hold the pipe open.
    reading.cancel()


def _signal(process: asyncio.subprocess.Process, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _told(code: int | None, output: HeadAndTail, seconds: float, *, in_time: bool, limit: int) -> v1.ToolResult:
    first = f"exit code: {code}" if in_time else f"timed out after {seconds:g} s"
    text, size = cut(f"{first}\n{output.text()}", limit)
    result = v1.ToolResult(status=_status(code, in_time=in_time), content=[v1.Part(text=text)])
    if result.status != v1.ToolResult.STATUS_SUCCEEDED:
        result.error_message = first.replace("exit code:", "exit code")
    if output.dropped or size > limit:
        result.truncated, result.original_size_bytes = True, output.size
    return result


def _status(code: int | None, *, in_time: bool) -> "v1.ToolResult.Status.ValueType":
    if not in_time:
        return v1.ToolResult.STATUS_TIMED_OUT
    return v1.ToolResult.STATUS_SUCCEEDED if code == 0 else v1.ToolResult.STATUS_FAILED
