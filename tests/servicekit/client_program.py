"""A client as a program of its own, to be killed: `python -m servicekit.client_program TARGET SESSION WORKSPACE`.

Runs the session's tools in WORKSPACE, approves whatever is asked, keeps its journal beside the workspace, and ends
when the turn does. Reads messages to say from standard input, one a line.
"""

import asyncio
import sys
from contextlib import suppress
from pathlib import Path

from agent_runtime import v1
from agent_runtime_client import Chat, Client, Event, Journal, LocalTools, Rejected


async def main(target: str, session_id: str, workspace: Path) -> None:
    """Take part in the session until its turn is over."""
    with Journal.open(workspace.parent / "journal", session_id=session_id) as journal:
        executor = LocalTools(workspace)
        async with (
            Client(target) as client,
            client.chat(session_id, executor=executor, journal=journal) as chat,
            asyncio.TaskGroup() as tasks,
        ):
            for line in sys.stdin:
                tasks.create_task(chat.send(line.strip()))
            async for update in chat:
                if not isinstance(update, Event):
                    continue
                if update.event.HasField("approval_requested"):
                    tasks.create_task(_approve(chat, update.event.approval_requested.approval))
                if update.event.HasField("turn_finished"):
                    break


async def _approve(chat: Chat, approval: v1.Approval) -> None:
    with suppress(Rejected):  # one of the past, decided already
        await chat.decide(approval, v1.APPROVAL_VERDICT_APPROVE)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
