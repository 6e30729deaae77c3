"""From the command line to a client: the target, the workspace, and the one way errors leave."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import grpc
from cyclopts import Parameter

from agent_runtime_client import Client, ClientError
from agent_runtime_client.terminal.failures import CommandFailed, Exit, explain
from agent_runtime_client.terminal.text import shorten

DEFAULT_TARGET: Final = "127.0.0.1:50051"
_TARGET = re.compile(r"(?:[\w.-]+|\[[0-9a-fA-F:.]+\]):(\d{1,5})|(?:unix|dns|ipv4|ipv6|passthrough):\S+")

Target = Annotated[
    str,
    Parameter(
        help="Server to talk to, as HOST:PORT; equal ones as ipv4:IP:PORT,IP:PORT.", env_var="AGENT_RUNTIME_TARGET"
    ),
]


@Parameter(name="*")
@dataclass(frozen=True)
class Access:
    """As whom to come in, and over what."""

    token: Annotated[
        str | None,
        Parameter(help="API key or signed token; other users see a command line.", env_var="AGENT_RUNTIME_TOKEN"),
    ] = None
    tls: Annotated[bool, Parameter(help="Use TLS, as the options below do too.", negative="")] = False
    tls_ca: Annotated[
        Path | None, Parameter(help="Authorities of the server's certificate.", env_var="AGENT_RUNTIME_TLS_CA")
    ] = None
    tls_cert: Annotated[Path | None, Parameter(help="Certificate to show to the server.")] = None
    tls_key: Annotated[Path | None, Parameter(help="Its key.")] = None

    def credentials(self) -> grpc.ChannelCredentials | None:
        """Return what TLS needs, None without TLS."""
        if not self.tls and self.tls_ca is None and self.tls_cert is None:
            return None
        if (self.tls_cert is None) != (self.tls_key is None):
            raise CommandFailed("--tls-cert and --tls-key go together", Exit.USAGE)
        return grpc.ssl_channel_credentials(*(_read(path) for path in (self.tls_ca, self.tls_key, self.tls_cert)))


ANYBODY: Final = Access()
"""Nobody in particular, without TLS."""


def _read(path: Path | None) -> bytes | None:
    try:
        return None if path is None else path.read_bytes()
    except OSError as error:
        raise CommandFailed(f"cannot read {shorten(str(path), 200)}: {error.strerror}", Exit.USAGE) from error


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


def with_client(target: str, work: Callable[[Client], Awaitable[int]], access: Access = ANYBODY) -> int:
    """Run `work` with a client of `target`; errors leave as `CommandFailed`."""
    checked_target(target)
    credentials = access.credentials()

    async def main() -> int:
        async with Client(target, credentials=credentials, token=access.token) as client:
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
