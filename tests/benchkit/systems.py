"""What is measured, each in processes of its own: the service, the bare server, the mock model, peers."""

import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from agent_runtime_server.embedded import Embedded, embedded
from benchkit.cells import System
from benchkit.load import PLACE
from benchkit.processes import KIT_PATH, Child, child, children
from servicekit.ports import free_port

SERVE: Final = ("-m", "agent_runtime_cli", "serve", "--stop-on-stdin-close", "--port", "0", "--metrics-port")
CORES: Final = os.cpu_count() or 1
_KIT: Final = Path(__file__).resolve().parent


@dataclass
class Stand:
    """Everything that stands ready to be measured."""

    folder: Path
    stores: Embedded
    mock_url: str
    mock_pid: int
    systems: dict[str, System] = field(default_factory=dict)

    @asynccontextmanager
    async def service(self, name: str, *, workers: int = 1, **settings: str) -> AsyncIterator[tuple[System, Child]]:
        """Run the service while the block runs; `settings` are those of the environment."""
        common = {
            "AGENT_RUNTIME_DATABASE_URL": self.stores.database_url,
            "AGENT_RUNTIME_REDIS_URL": self.stores.redis_url,
            "AGENT_RUNTIME_LLM_BASE_URL": self.mock_url,
            "AGENT_RUNTIME_LOG_LEVEL": "WARNING",
        }
        given = {f"AGENT_RUNTIME_{key.upper()}": value for key, value in settings.items()}
        port = free_port()
        command = (*SERVE, str(port), "--workers", str(workers))
        async with child(*command, folder=self.folder, settings=common | given) as process:
            target = await process.ready("agent-runtime serving on ")
            yield System(name, "service", target, children(process.pid), metrics_port=port), process


@asynccontextmanager
async def stand(folder: Path) -> AsyncIterator[Stand]:
    """Start the databases and the mock model."""
    async with AsyncExitStack() as stack:
        stores = await stack.enter_async_context(embedded(folder))
        mock = await stack.enter_async_context(child("-m", "benchkit.mock", folder=folder, settings=KIT_PATH))
        yield Stand(folder, stores, await mock.ready(), mock.pid)


@asynccontextmanager
async def everything(here: Stand, peers: Mapping[str, Path]) -> AsyncIterator[Stand]:
    """Start all systems that are compared; `peers` are environments by the peer's name.

    Each service has stores of its own: as replicas of one deployment they would tell each other of every turn.
    """
    async with AsyncExitStack() as stack:
        for name, window, workers in (("service", "20", 1), ("per token", "0", 1), ("workers", "20", CORES)):
            stores = await stack.enter_async_context(embedded(here.folder / f"{workers}-{window}"))
            service = replace(here, stores=stores).service(name, workers=workers, stream_window_ms=window)
            here.systems[name], _ = await stack.enter_async_context(service)
        bare = await stack.enter_async_context(child("-m", "benchkit.raw", folder=here.folder, settings=KIT_PATH))
        here.systems["bare"] = System("bare", "bare", await bare.ready(), [bare.pid])
        here.systems["direct"] = System("direct", "http", here.mock_url, template=_model_request().hex())
        for name, python in peers.items():
            here.systems[name] = await _peer(stack, here, name, python)
        yield here


async def _peer(stack: AsyncExitStack, here: Stand, name: str, python: Path) -> System:
    """Start a peer, which says how it is asked: kind, target, template."""
    script = str(_KIT / "peers" / f"{name}.py")
    started = await stack.enter_async_context(
        child(script, here.mock_url, PLACE, folder=here.folder, python=str(python))
    )
    kind, target, template = (await started.ready()).split(" ", 2)
    return System(name, kind, target, [started.pid], template)


def _model_request() -> bytes:
    messages = [{"role": "user", "content": PLACE}]
    body = json.dumps({"model": "bench", "messages": messages, "stream": True}).encode()
    return b"POST /v1/chat/completions HTTP/1.1\r\nHost: bench\r\nContent-Length: %d\r\n\r\n" % len(body) + body
