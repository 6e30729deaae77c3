"""From the command line to a client: the target, the workspace, and the one way errors leave."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Final

from cyclopts import Parameter

from agent_runtime_client import Client, ClientError
from agent_runtime_client.terminal.failures import CommandFailed, Exit, explain
from agent_runtime_client.terminal.text import shorten

DEFAULT_TARGET: Final = "127.0.0.1:50051"
_TARGET = re.compile(r"(?:[\w.-]+|\[[0-9a-fA-F:.]+\]):(\d{1,5})|(?:unix|dns|ipv4|ipv6|passthrough):\S+")

Target = Annotated[str, Parameter(help="Server to talk to, as HOST:PORT.", env_var="AGENT_RUNTIME_TARGET")]


def checked_target(target: str) -> str:
    """The target when it has the shape of one."""
    found = _TARGET.fullmatch(target)
    if found is None or int(found[1] or 1) not in range(1, 65536):
        raise CommandFailed(f"--target: {shorten(target, 80)!r} is not HOST:PORT", Exit.USAGE)
    return target


def checked_workspace(workspace: Path) -> Path:
    """The workspace as an absolute path when it is a directory."""
    if not workspace.is_dir():
        raise CommandFailed(f"--workspace: {shorten(str(workspace), 200)} is not a directory", Exit.USAGE)
    return workspace.resolve()


def with_client(target: str, work: Callable[[Client], Awaitable[int]]) -> int:
    """Run `work` with a client of `target`; errors leave as `CommandFailed`."""
    checked_target(target)

    async def main() -> int:
        async with Client(target) as client:
            return await work(client)

    return unwrapped(lambda: asyncio.run(main()), target)


def unwrapped(work: Callable[[], int], target: str = "") -> int:
    """Run `work`; an error of the library, alone or in a group, leaves as one `CommandFailed`."""
    try:
        return work()
    except* (ClientError, CommandFailed) as group:
        error = explain(_first(group), target)
    raise error


def _first(group: BaseExceptionGroup[BaseException]) -> Exception:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error if isinstance(error, Exception) else RuntimeError(str(error))
