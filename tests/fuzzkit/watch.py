"""What is looked at while a server is fuzzed: that it lives, says so, serves a good session, and how large it is."""

import asyncio
import re
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import grpc.aio
from grpc_health.v1 import health_pb2

from agent_runtime import v1
from servicekit.process import ServerProcess
from servicekit.service import Service

_PATIENCE: Final = 60.0
_PAUSE: Final = 0.5
SERVING: Final = health_pb2.HealthCheckResponse.SERVING


@dataclass(slots=True)
class Watch:
    """A canary, and everything that was measured; `troubles` is what must not be."""

    server: ServerProcess
    metrics_port: int
    troubles: list[str] = field(default_factory=list)
    sizes: list[tuple[float, int]] = field(default_factory=list)
    """Moments, and the server's resident bytes then."""
    held: int = 0
    """What its sessions held of content at last, by its metrics."""
    turns: int = 0
    slowest_turn: float = 0
    checks: int = 0
    slowest_check: float = 0

    async def look(self, enough: asyncio.Event) -> None:
        """Watch until it is enough, or the server is gone."""
        service = Service(self.server.target, options=(("grpc.use_local_subchannel_pool", 1),))
        async with service.channel:
            session_id = await service.new_session()
            looks = (self._play_turns(service, session_id, enough), self._check(service, enough), self._measure(enough))
            await asyncio.gather(*looks)
            await self._read_whole(service, session_id)

    async def _play_turns(self, service: Service, session_id: str, enough: asyncio.Event) -> None:
        """Talk on one stream all the time."""
        async with service.chat(session_id, client_id="canary") as chat:
            while not enough.is_set() and not self.troubles:
                began = time.monotonic()
                try:
                    async with asyncio.timeout(_PATIENCE):
                        await chat.say("hello")
                        finished = await chat.finished(self.turns)
                except (TimeoutError, AssertionError, grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
                    return self._trouble(f"the canary's turn {self.turns}", error)
                if finished.state != v1.TURN_STATE_COMPLETED:
                    self.troubles.append(f"the canary's turn {self.turns} ended {finished}")
                self.turns += 1
                self.slowest_turn = max(self.slowest_turn, time.monotonic() - began)
                await asyncio.sleep(_PAUSE)
        return None

    async def _check(self, service: Service, enough: asyncio.Event) -> None:
        """Ask for the health all the time."""
        while not enough.is_set() and not self.troubles:
            began = time.monotonic()
            try:
                answer = await service.health.Check(health_pb2.HealthCheckRequest(), timeout=_PATIENCE)
            except grpc.aio.AioRpcError as error:
                return self._trouble("health", error)
            if answer.status != SERVING:
                self.troubles.append(f"health told {answer}")
            self.checks += 1
            self.slowest_check = max(self.slowest_check, time.monotonic() - began)
            await asyncio.sleep(_PAUSE)
        return None

    async def _measure(self, enough: asyncio.Event) -> None:
        while not enough.is_set() and self.server.runs:
            self.sizes.append((time.monotonic(), resident_bytes(self.server.pid)))
            await asyncio.sleep(_PAUSE)
        self.held = await asyncio.to_thread(_held_bytes, self.metrics_port) if self.server.runs else 0
        if not self.server.runs:
            self.troubles.append("the server's process has ended")

    async def _read_whole(self, service: Service, session_id: str) -> None:
        if self.troubles:
            return
        seqs = [event.seq for event in await service.log(session_id)]
        if seqs != list(range(1, len(seqs) + 1)):
            self.troubles.append(f"the canary's log has gaps: {seqs}")

    def _trouble(self, what: str, error: Exception) -> None:
        self.troubles.append(f"{what}: {type(error).__name__}: {error}")

    def growth(self) -> int:
        """Return by how many bytes the greatest size of the last third exceeds that of the first."""
        if not self.sizes:
            return 0
        begin, end = self.sizes[0][0], self.sizes[-1][0]
        third = (end - begin) / 3
        first = max(size for moment, size in self.sizes if moment <= begin + third)
        return max(size for moment, size in self.sizes if moment >= end - third) - first


def _held_bytes(port: int) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=_PATIENCE) as answer:
        found = re.search(r"^agent_runtime_loaded_sessions_bytes (\S+)$", answer.read().decode(), re.MULTILINE)
    return int(float(found[1])) if found is not None else 0


def resident_bytes(pid: int) -> int:
    """Return how much memory a process holds."""
    found = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found is not None else 0
