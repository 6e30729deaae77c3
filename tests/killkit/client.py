"""A client as a program of its own, to be killed and started again: `python -m killkit.client CONFIG`.

It takes part in sessions as an editor would: says something, runs the tools that are asked for, and reads on. Each of
its seats is one such user. Lines on standard input tell it to begin no more turns (`quiet`); its end ends the program.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Final

from agent_runtime import v1
from agent_runtime_client import (
    CaughtUp,
    Chat,
    Client,
    ClientError,
    Disconnected,
    Event,
    Journal,
    LocalTools,
    Rejected,
    Timing,
)
from killkit.records import Record, Recorder, What, read
from killkit.wire import recorded_client

_RETRY_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class Config:
    """What a client program is told."""

    folder: str
    seats: Mapping[str, str]
    """The address that each seat connects to, by its name."""
    turns_per_session: int = 6
    longest_pause: float = 0.3
    silence_seconds: float = 6
    cancels: float = 0.05
    """Share of turns that the user cancels."""
    keeps_journal: bool = True

    @property
    def timing(self) -> Timing:
        """The client library's dials."""
        return Timing(ping_seconds=2, silence_seconds=self.silence_seconds, call_seconds=5)


class CountedTools:
    """The standard tools; each run of a call leaves a line in a file before anything is done."""

    def __init__(self, folder: Path) -> None:
        self._tools = LocalTools(folder / "workspace")
        self._effects = os.open(folder / "effects", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    @property
    def specs(self) -> Sequence[v1.ToolSpec]:
        """The tools, as declared to the server."""
        return self._tools.specs

    async def run(self, call: v1.ToolCall, deadline: float, progress: Callable[[str], None]) -> v1.ToolResult:
        """Count the run, and do what is asked."""
        os.write(self._effects, f"{call.call_id} {call.tool_name}\n".encode())
        return await self._tools.run(call, deadline, progress)

    def close(self) -> None:
        """Close the file."""
        os.close(self._effects)


@dataclass(slots=True)
class Place:
    """What a seat's program has applied of a session, in this life and those before."""

    last_seq: int = 0
    open_turns: set[str] = field(default_factory=set)
    turns: int = 0
    left: bool = False

    def take(self, record: Record) -> None:
        """Take one more record of the session's."""
        if record.what is What.LEFT:
            self.left = True
        elif record.what is What.APPLIED:
            self.last_seq = record.seq
            if record.detail == "user_message":
                self.open_turns.add(record.key)
                self.turns += 1
            elif record.detail == "turn_finished":
                self.open_turns.discard(record.key)


class Seat:
    """One user of the program: a session after the other."""

    def __init__(self, name: str, target: str, config: Config, quiet: asyncio.Event) -> None:
        self._name = name
        self._target = target
        self._config = config
        self._quiet = quiet
        self._folder = Path(config.folder) / name
        self._chance = Random()

    async def play(self) -> None:
        """Go through sessions for ever, beginning with the one in which a former life has ended."""
        number = max((int(path.name) for path in self._folder.glob("[0-9]*")), default=0)
        while True:
            await self._session(number)
            number += 1

    async def _session(self, number: int) -> None:
        folder = self._folder / str(number)
        (folder / "workspace" / "runs").mkdir(parents=True, exist_ok=True)
        (folder / "workspace" / "seed.txt").write_text("a seed\n")
        place = Place()
        for record in read(folder / "records"):
            place.take(record)
        if place.left:
            return
        session_id = f"{self._name}-{number}"
        recorder = Recorder(folder / "records", lambda record: _tell(session_id, record))
        tools = CountedTools(folder)
        try:
            recorder.note(What.BORN, seq=place.last_seq)
            async with recorded_client(self._target, self._config.timing, recorder) as client:
                await _created(client, session_id)
                await self._attend(client, session_id, place, recorder, tools)
        finally:
            tools.close()
            recorder.close()

    async def _attend(
        self, client: Client, session_id: str, place: Place, recorder: Recorder, tools: CountedTools
    ) -> None:
        while True:
            try:
                async with self._chat(client, session_id, place, tools) as chat:
                    await Visit(chat, place, recorder, self._config, self._quiet, self._chance).stay()
            except* ClientError as group:
                recorder.note(What.GAVE_UP, detail=repr(group.exceptions))
            else:
                return
            await asyncio.sleep(_RETRY_SECONDS)

    @asynccontextmanager
    async def _chat(self, client: Client, session_id: str, place: Place, tools: CountedTools) -> AsyncIterator[Chat]:
        async with AsyncExitStack() as stack:
            journal = None
            if self._config.keeps_journal:
                journal = stack.enter_context(Journal.open(self._folder / "journal"))
            chat = client.chat(session_id, executor=tools, journal=journal, after_seq=place.last_seq)
            yield await stack.enter_async_context(chat)


class Visit:
    """One chat from its beginning until the program has had enough of the session."""

    def __init__(
        self, chat: Chat, place: Place, recorder: Recorder, config: Config, quiet: asyncio.Event, chance: Random
    ) -> None:
        self._chat = chat
        self._place = place
        self._recorder = recorder
        self._config = config
        self._quiet = quiet
        self._chance = chance
        self._changed = asyncio.Event()
        self._caught_up = False

    async def stay(self) -> None:
        """Listen, and speak until there is nothing more to say."""
        async with asyncio.TaskGroup() as tasks:
            listening = tasks.create_task(self._listen())
            await self._speak()
            listening.cancel()

    async def _listen(self) -> None:
        async for update in self._chat:
            if isinstance(update, Event):
                self._apply(update.event)
            elif isinstance(update, CaughtUp):
                self._caught_up = True
            elif isinstance(update, Disconnected):
                self._recorder.note(What.DOWN, detail=f"{update.reason}; again in {update.retry_in:.2f} s")
            self._changed.set()

    def _apply(self, event: v1.SessionEvent) -> None:
        detail = event.WhichOneof("payload") or ""
        self._recorder.note(What.APPLIED, seq=event.seq, key=event.turn_id, detail=detail)
        self._place.take(Record(0, What.APPLIED, seq=event.seq, key=event.turn_id, detail=detail))

    async def _speak(self) -> None:
        while True:
            await self._until(lambda: self._caught_up and not self._place.open_turns)
            if self._place.turns >= self._config.turns_per_session and not self._quiet.is_set():
                self._recorder.note(What.LEFT, seq=self._place.last_seq)
                return
            await asyncio.sleep(self._chance.uniform(0, self._config.longest_pause))
            if self._quiet.is_set():
                await asyncio.Event().wait()
            await self._say()

    async def _say(self) -> None:
        turns = self._place.turns
        try:
            await self._chat.send(f"task {os.urandom(6).hex()}", agent_id="coder")
        except Rejected:
            await asyncio.sleep(_RETRY_SECONDS)
            return
        await self._until(lambda: self._place.turns > turns)
        if self._chance.random() < self._config.cancels:
            await asyncio.sleep(self._chance.uniform(0, 1.5))
            with suppress(Rejected):  # the turn is over already
                await self._chat.cancel(reason="the user has changed their mind")

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()


async def _created(client: Client, session_id: str) -> None:
    """Create the session, or find that it is there, however long that takes."""
    while True:
        try:
            await client.create_session(session_id=session_id, agent_id="coder")
        except ClientError:
            await asyncio.sleep(_RETRY_SECONDS)
        else:
            return


def _tell(session_id: str, record: Record) -> None:
    os.write(1, session_id.encode() + b" " + record.line())


async def until_told(quiet: asyncio.Event) -> None:
    """Obey standard input, and end with it."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.readline():
        quiet.set()


async def main(config: Config) -> None:
    """Play every seat until standard input ends."""
    quiet = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        seats = [tasks.create_task(Seat(name, target, config, quiet).play()) for name, target in config.seats.items()]
        await until_told(quiet)
        for seat in seats:
            seat.cancel()


def as_argument(config: Config) -> str:
    """Return the argument that `python -m killkit.client` takes."""
    return json.dumps(asdict(config))


if __name__ == "__main__":
    asyncio.run(main(Config(**json.loads(sys.argv[1]))))
