"""What an outage befalls: servers, their stores, a model, and clients that never stop talking."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from agent_runtime_client import Client
from agent_runtime_server.embedded import scratch_state_dir
from agent_runtime_server.mockllm.server import mock_server
from killkit.stores import MortalStore, mortal_stores
from servicekit.process import ServerProcess

TESTS: Final = Path(__file__).resolve().parent.parent
SETTINGS: Final = {"AGENT_RUNTIME_LEASE_SECONDS": "10", "AGENT_RUNTIME_HEARTBEAT_SECONDS": "5"}
_PACE: Final = {"delay_ms": 10, "first_delay_ms": 50}
_SCRIPT: Final[list[dict[str, Any]]] = [
    {
        "match": {"last_role": "user"},
        "answer": {"text": "I look.", "tool_calls": [{"name": "read_file", "arguments": {"path": "seed.txt"}}]},
        "pace": _PACE,
    },
    {"match": {"last_role": "tool"}, "answer": {"text": "There it is, as was to be expected."}, "pace": _PACE},
]


@dataclass(frozen=True, slots=True)
class Size:
    """How much there is."""

    servers: int = 2
    processes: int = 2
    chats: int = 5  # of each process


class Load:
    """The client processes, and everything they have told."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.statuses: list[int] = []
        self._processes: list[asyncio.subprocess.Process] = []

    async def run(self, target: str, size: Size, folder: Path) -> None:
        """Talk until told to end."""
        async with asyncio.TaskGroup() as tasks:
            for number in range(size.processes):
                places = [_workspace(folder / f"{number}-{chat}") for chat in range(size.chats)]
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "outagekit.load", target, *places),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    cwd=TESTS,
                )
                self._processes.append(process)
                tasks.create_task(self._listen(process))

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        try:
            async for line in process.stdout:
                self.told.append(json.loads(line))
        finally:
            if process.returncode is None and sys.exc_info()[0] is not None:
                process.kill()
            self.statuses.append(await process.wait())

    def end(self) -> None:
        """Let every chat play its turn to the end, and go."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.close()

    def of(self, kind: str, since: float = 0) -> list[dict[str, Any]]:
        """Return what was told of a kind."""
        return [one for one in self.told if one["kind"] == kind and one["at"] >= since]


def _workspace(folder: Path) -> str:
    folder.mkdir()
    (folder / "seed.txt").write_text("seed\n")
    return str(folder)


@dataclass(slots=True)
class World:
    """The world, while it stands."""

    postgres: MortalStore
    valkey: MortalStore
    servers: Sequence[ServerProcess]
    load: Load
    size: Size
    loading: "asyncio.Task[None]" = field(init=False)

    @property
    def target(self) -> str:
        """All servers, as clients name them."""
        return "ipv4:" + ",".join(server.target for server in self.servers)

    async def everybody_finished_a_turn(self, since: float, seconds: float) -> float:
        """Wait until each chat has finished a turn that began after a moment, and return how long that took."""
        async with asyncio.timeout(seconds):
            while len({one["session_id"] for one in self.load.of("finished") if one["began"] >= since}) < self.chats:
                assert not self.load.statuses, "a client has ended before its time"
                await asyncio.sleep(0.05)
        return time.time() - since

    @property
    def chats(self) -> int:
        """How many there are in all."""
        return self.size.processes * self.size.chats

    async def lost(self) -> list[str]:
        """Return the frames that were acknowledged and are not where the ack said."""
        missing = []
        async with Client(self.target) as client:
            for session_id in {one["session_id"] for one in self.load.told}:
                placed = {event.frame_id: event.seq async for event in client.events(session_id) if event.frame_id}
                acked = [one for one in self.load.of("acked") if one["session_id"] == session_id]
                missing += [one["frame_id"] for one in acked if placed.get(one["frame_id"]) != one["seq"]]
        return missing


@asynccontextmanager
async def world(size: Size, settings: dict[str, str]) -> AsyncIterator[World]:
    """Build the world, with everybody talking already."""
    async with AsyncExitStack() as stack:
        state_dir = stack.enter_context(scratch_state_dir())
        postgres, valkey = await stack.enter_async_context(mortal_stores(state_dir))
        model = await stack.enter_async_context(mock_server())
        model.use(_SCRIPT)
        urls = {
            "AGENT_RUNTIME_DATABASE_URL": postgres.url,
            "AGENT_RUNTIME_REDIS_URL": valkey.url,
            "AGENT_RUNTIME_LLM_BASE_URL": model.base_url,
        }
        servers = []
        for _ in range(size.servers):
            server = ServerProcess(stack.enter_context(scratch_state_dir()), {**SETTINGS, **urls, **settings})
            await server.start()
            stack.push_async_callback(server.stop)
            servers.append(server)
        load = Load()
        made = World(postgres, valkey, servers, load, size)
        async with asyncio.TaskGroup() as tasks:
            made.loading = tasks.create_task(load.run(made.target, size, stack.enter_context(scratch_state_dir())))
            try:
                yield made
            except BaseException:
                made.loading.cancel()
                raise
