"""`agent-runtime run`: everything at once, on this machine."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.text import Text

from agent_runtime_client import Client
from agent_runtime_client.terminal.chat import ChatOptions, talk
from agent_runtime_client.terminal.child import own_server
from agent_runtime_client.terminal.connect import checked_workspace, unwrapped
from agent_runtime_client.terminal.demo import play
from agent_runtime_client.terminal.printer import stdout_console


def run(
    *message: Annotated[str, Parameter(help="Say this, print the answer and end.")],
    workspace: Annotated[Path, Parameter(help="Folder the agents work in.")] = Path(),
    session: Annotated[str, Parameter(help="Session to go on with; its history is shown first.")] = "",
) -> int:
    """Start a server with its own Postgres, Redis and mock model, and chat about the current directory.

    Without a terminal, and without MESSAGE, it plays the demo instead. The server stops when this ends.
    """
    said = " ".join(message).strip()
    folder = checked_workspace(workspace)
    interactive = sys.stdin.isatty() and sys.stdout.isatty()

    options = ChatOptions(said, folder, session, command="agent-runtime run")

    async def main() -> int:
        if not said and not interactive:
            return await play(None)
        console = stdout_console() if interactive else None
        if console is not None:
            console.print(Text("starting a server of our own …", "dim"))
        async with own_server() as target, Client(target) as client:
            return await talk(client, options)

    return unwrapped(lambda: asyncio.run(main()))
