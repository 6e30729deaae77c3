"""A server, the mock model and the load clients, each a process of its own, through some phases."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from benchkit.processes import KIT_PATH, Child, child, cpu_seconds, resident_bytes
from overloadkit.client import Job, Phase, Seen
from servicekit.process import ServerProcess, serving

QUIET: Final = {
    "AGENT_RUNTIME_LOG_LEVEL": "ERROR",
    "AGENT_RUNTIME_LEASE_SECONDS": "10",
    "AGENT_RUNTIME_HEARTBEAT_SECONDS": "15",
}
_END_SECONDS: Final = 60


@dataclass(slots=True)
class Weights:
    """What the server held and used in a phase, all the times that it came."""

    began: float = 0  # moment of the machine's clock, the last time
    seconds: float = 0
    used: float = 0  # seconds of a core
    resident: list[int] = field(default_factory=list)  # bytes, looked at each second


@dataclass(slots=True)
class Stand:
    """A server under load."""

    server: ServerProcess
    folder: Path
    weights: dict[str, Weights] = field(default_factory=dict)
    clients: list[Child] = field(default_factory=list)

    async def add(self, stack: AsyncExitStack, job: Job) -> None:
        """Start a client and open its streams."""
        client = await stack.enter_async_context(
            child("-m", "overloadkit.client", str(len(self.clients)), folder=self.folder, settings=KIT_PATH)
        )
        await client.tell(json.dumps(asdict(job)))
        await client.ready("ready")
        self.clients.append(client)

    async def phase(self, name: str, seconds: float, rates: Sequence[float]) -> None:
        """Let each client begin so many turns a second for a while, and weigh the server meanwhile."""
        weights = self.weights.setdefault(name, Weights())
        pids = [self.server.pid]
        for client, rate in zip(self.clients, rates, strict=True):
            await client.tell(json.dumps(asdict(Phase(name, rate))))
        weights.began, used = time.monotonic(), cpu_seconds(pids)
        while (left := weights.began + seconds - time.monotonic()) > 0:
            await asyncio.sleep(min(1, left))
            weights.resident.append(resident_bytes(pids))
        weights.seconds += time.monotonic() - weights.began
        weights.used += cpu_seconds(pids) - used

    async def seen(self) -> list[Seen]:
        """End the load and return what each client saw."""
        for client in self.clients:
            await client.tell("")
        return [Seen(**json.loads(await client.line(_END_SECONDS))) for client in self.clients]


@asynccontextmanager
async def stand(settings: Mapping[str, str]) -> AsyncIterator[Stand]:
    """Run a server and its model while the block runs."""
    with TemporaryDirectory() as made:
        folder = Path(made)
        async with child("-m", "benchkit.mock", folder=folder, settings=KIT_PATH) as model:
            url = {"AGENT_RUNTIME_LLM_BASE_URL": await model.ready()}
            async with serving({**QUIET, **url, **settings}) as server:
                yield Stand(server, folder)
