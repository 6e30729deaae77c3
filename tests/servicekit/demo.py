"""The demo turn, played by the client library in a copy of the example project."""

import asyncio
import shutil
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Final

from agent_runtime import v1
from agent_runtime_client import (
    Chat,
    ChatUpdate,
    Client,
    Connected,
    Disconnected,
    Event,
    Journal,
    LocalTools,
    TextDelta,
    Timing,
)

MESSAGE: Final = "the tests fail, find out why and fix it"
HURRY: Final = Timing(backoff_first=0.05, backoff_most=0.2, silence_seconds=10)


class CountedTools:
    """The standard tools, counting how often each call was run."""

    def __init__(self, workspace: Path) -> None:
        self._tools = LocalTools(workspace)
        self.runs: Counter[str] = Counter()
        self.names: dict[str, str] = {}

    @property
    def specs(self) -> Sequence[v1.ToolSpec]:
        """The tools, as declared to the server."""
        return self._tools.specs

    async def run(self, call: v1.ToolCall, deadline: float, progress: Callable[[str], None]) -> v1.ToolResult:
        """Count the call and run it."""
        self.runs[call.call_id] += 1
        self.names[call.call_id] = call.tool_name
        return await self._tools.run(call, deadline, progress)


@dataclass(frozen=True, slots=True)
class Moment:
    """A point of a turn: so many pieces of text after the event of this seq, or the next event if they do not come."""

    seq: int
    deltas: int = 0

    def __str__(self) -> str:
        return f"event {self.seq} + {self.deltas} deltas"


class Watcher:
    """Reads a chat, approves what is asked, and tells when a moment is reached."""

    def __init__(self, chat: Chat) -> None:
        self.events: list[v1.SessionEvent] = []
        self.replica_id = ""  # of the replica that welcomed the chat last
        self.cut_off: list[str] = []  # why the chat was without a stream for a while
        self._chat = chat
        self._deltas = 0
        self._asked: asyncio.Queue[v1.Approval] = asyncio.Queue()

    async def follow(self, moment: Moment | None = None) -> bool:
        """Read until the moment is reached (True) or the turn is over (False)."""
        async for update in self._chat:
            self._take(update)
            if moment is not None and self._is_past(moment):
                return True
            if self.events and self.events[-1].HasField("turn_finished"):
                return False
        raise AssertionError("the chat ended by itself")

    def _take(self, update: ChatUpdate) -> None:
        if isinstance(update, Connected):
            self.replica_id = update.welcome.replica_id
        elif isinstance(update, Disconnected):
            self.cut_off.append(update.reason)
        elif isinstance(update, TextDelta):
            self._deltas += 1
        elif isinstance(update, Event):
            self.events.append(update.event)
            self._deltas = 0
            if update.event.HasField("approval_requested"):
                self._asked.put_nowait(update.event.approval_requested.approval)

    def _is_past(self, moment: Moment) -> bool:
        seq = self.events[-1].seq if self.events else 0
        return seq > moment.seq or (seq == moment.seq and self._deltas >= moment.deltas)

    async def approve_all(self) -> None:
        """Approve whatever is asked, until cancelled."""
        while True:
            await self._chat.decide(await self._asked.get(), v1.APPROVAL_VERDICT_APPROVE)


@dataclass(frozen=True, slots=True)
class Player:
    """A client whose turn has begun on its copy of the project."""

    client: Client
    session_id: str
    workspace: Path
    tools: CountedTools
    watcher: Watcher

    async def tests_pass(self) -> bool:
        """Run the project's tests."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "unittest", "-q"), cwd=self.workspace, stderr=asyncio.subprocess.PIPE
        )
        await process.communicate()
        return process.returncode == 0


@asynccontextmanager
async def playing(target: str, workspace: Path, journal: Journal) -> AsyncIterator[Player]:
    """Say the demo's message, and approve what is asked while the block runs."""
    with as_file(files("agent_runtime_client") / "example") as example:
        shutil.copytree(example, workspace, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    tools = CountedTools(workspace)
    async with Client(target, timing=HURRY) as client:
        session_id = (await client.create_session()).session_id
        async with client.chat(session_id, executor=tools, journal=journal) as chat, asyncio.TaskGroup() as tasks:
            watcher = Watcher(chat)
            saying = tasks.create_task(chat.send(MESSAGE))
            approving = tasks.create_task(watcher.approve_all())
            yield Player(client, session_id, workspace, tools, watcher)
            await saying
            approving.cancel()


async def check(player: Player) -> None:
    """The turn is complete, told without a gap, and its calls were run and answered once."""
    events = player.watcher.events
    assert [event.seq for event in events] == [*range(1, len(events) + 1)]
    assert events == [event async for event in player.client.events(player.session_id)]
    ends = [event.turn_finished.state for event in events if event.HasField("turn_finished")]
    assert ends == [v1.TURN_STATE_COMPLETED]
    proposed = [e.tool_call_proposed.tool_call for e in events if e.HasField("tool_call_proposed")]
    completed = Counter(e.tool_call_completed.result.call_id for e in events if e.HasField("tool_call_completed"))
    assert completed == Counter({call.call_id: 1 for call in proposed})
    on_client = [call for call in proposed if call.executor == v1.TOOL_EXECUTOR_CLIENT]
    assert player.tools.runs == Counter({call.call_id: 1 for call in on_client})
    assert [call.tool_name for call in on_client].count("write_file") == 1
    assert await player.tests_pass()
