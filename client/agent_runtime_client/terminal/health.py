"""`agent-runtime health`: one look at a server, for people and for containers."""

import asyncio
from typing import Annotated

import grpc
from cyclopts import Parameter

from agent_runtime_client import CallFailed, Client, Timing, Unreachable
from agent_runtime_client.terminal.connect import ANYBODY, DEFAULT_TARGET, Access, checked_target
from agent_runtime_client.terminal.failures import CommandFailed

_BAD_ARGUMENTS, _NO_CONNECTION, _RPC_FAILED, _NOT_SERVING = 1, 2, 3, 4


def health(
    service: Annotated[
        str, Parameter(help="Name to ask about, such as dependency.postgres; empty is the server.")
    ] = "",
    *,
    target: Annotated[
        str, Parameter(name=["--target", "--addr"], help="Server, as HOST:PORT.", env_var="AGENT_RUNTIME_TARGET")
    ] = DEFAULT_TARGET,
    access: Access = ANYBODY,
    timeout: Annotated[float, Parameter(help="Seconds to wait for the answer.")] = 5.0,
) -> int:
    """Ask a server whether it serves; prints the state.

    Exit status: 0 serving, 1 bad arguments, 2 no connection, 3 the call failed or took too long, 4 not serving.
    """
    if not timeout > 0:
        raise CommandFailed("--timeout must be above 0", _BAD_ARGUMENTS)
    try:
        checked_target(target)
        credentials = access.credentials()
    except CommandFailed as error:
        raise CommandFailed(str(error), _BAD_ARGUMENTS) from error
    try:
        status = asyncio.run(_ask(target, credentials, service, timeout))
    except CallFailed as error:
        no_connection = isinstance(error, Unreachable)
        reached = f"nothing answers at {target}" if no_connection else f"{target} answered badly"
        raise CommandFailed(
            f"{reached}: {error.problem.message or error.code}", _NO_CONNECTION if no_connection else _RPC_FAILED
        ) from error
    print(status)
    return 0 if status == "SERVING" else _NOT_SERVING


async def _ask(target: str, credentials: grpc.ChannelCredentials | None, service: str, timeout: float) -> str:
    async with Client(target, credentials=credentials, timing=Timing(call_seconds=timeout)) as client:
        return await client.health(service)
