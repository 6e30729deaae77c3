"""`agent-runtime fork`: another way on from an earlier moment of a session."""

from functools import partial
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from agent_runtime_client import Client
from agent_runtime_client.terminal.connect import ANYBODY, DEFAULT_TARGET, Access, Target, with_client


def fork(
    session: Annotated[str, Parameter(help="Session to copy.")],
    *,
    at: Annotated[int, Parameter(help="Last event to copy; 0 copies all.", validator=Number(gte=0))] = 0,
    title: Annotated[str, Parameter(help="Title of the copy; without it the other's.")] = "",
    target: Target = DEFAULT_TARGET,
    access: Access = ANYBODY,
) -> int:
    """Begin a session as a copy of another one up to an event, and print its id.

    `agent-runtime events SESSION` shows the numbers to choose from. The other session is left as it is.
    """
    return with_client(target, partial(_fork, session=session, at=at, title=title), access)


async def _fork(client: Client, *, session: str, at: int, title: str) -> int:
    print((await client.fork_session(session, at_seq=at, title=title)).session_id)
    return 0
