"""Clients as a program of its own: `python -m outagekit.load TARGET WORKSPACE…`.

In each workspace a chat lets one turn after the other read a file and answer, until standard input ends; every line
that is printed is a JSON object that says what was seen, and when by the machine's clock.
"""

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from agent_runtime import v1
from agent_runtime_client import Chat, Client, ClientError, Disconnected, Event, Journal, LocalTools, Notice


class Talker:
    """One chat that is never silent."""

    def __init__(self, chat: Chat, session_id: str, enough: asyncio.Event) -> None:
        self._chat = chat
        self._session_id = session_id
        self._enough = enough
        self._finished: asyncio.Queue[v1.SessionEvent] = asyncio.Queue()

    async def talk(self) -> None:
        """Play turns until it is enough; the one in hand is played to its end."""
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(self._read())
            while not self._enough.is_set():
                await self._turn()
            reading.cancel()

    async def _turn(self) -> None:
        began = time.time()
        try:
            ack = await self._chat.send("read the file")
        except ClientError as error:
            self._tell("refused", why=str(error))
            await asyncio.sleep(1)
            return
        self._tell("acked", frame_id=ack.frame_id, seq=ack.seq)
        finished = await self._finished.get()
        state = v1.TurnState.Name(finished.turn_finished.state).removeprefix("TURN_STATE_")
        why = finished.turn_finished.error.message
        self._tell("finished", began=began, seconds=time.time() - began, state=state, why=why)

    async def _read(self) -> None:
        async for update in self._chat:
            if isinstance(update, Disconnected):
                self._tell("disconnected", why=update.reason)
            elif isinstance(update, Notice):
                self._tell("notice", why=update.text)
            elif isinstance(update, v1.TurnNotice):
                self._tell("held up", why=update.reason)
            elif isinstance(update, Event) and update.event.HasField("turn_finished"):
                self._finished.put_nowait(update.event)

    def _tell(self, kind: str, **fields: object) -> None:
        told = {"kind": kind, "at": time.time(), "session_id": self._session_id, **fields}
        sys.stdout.write(f"{json.dumps(told)}\n")
        sys.stdout.flush()


async def talk(client: Client, folder: Path, enough: asyncio.Event) -> None:
    """Hold one chat with tools of its own."""
    session_id = (await client.create_session(agent_id="coder")).session_id
    with Journal.open(folder.with_suffix(".journal"), session_id=session_id) as journal:
        async with client.chat(session_id, executor=LocalTools(folder), journal=journal) as chat:
            await Talker(chat, session_id, enough).talk()


async def main(target: str, workspaces: Sequence[Path]) -> None:
    """Hold all chats of this process until standard input ends."""
    enough = asyncio.Event()
    async with Client(target) as client, asyncio.TaskGroup() as tasks:
        for workspace in workspaces:
            tasks.create_task(talk(client, workspace, enough))
        await asyncio.to_thread(sys.stdin.read)
        enough.set()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], [Path(name) for name in sys.argv[2:]]))
