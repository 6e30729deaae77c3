"""One run: a server, clients that fuzz it, somebody who watches, and what came of it."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from agent_runtime import v1
from agent_runtime_server.mockllm.server import mock_server
from badinput.world import build
from fuzzkit.client import Order
from fuzzkit.told import Finding, Tally, heard
from fuzzkit.watch import Watch
from servicekit.ports import free_port
from servicekit.process import ServerProcess, serving
from servicekit.service import Service

TESTS: Final = Path(__file__).resolve().parent.parent
MOST_GROWTH: Final = 64 << 20
"""Bytes by which the server may grow between the first and the last third: of a million frames each 100 would show."""

_SETTINGS: Final = {"AGENT_RUNTIME_HITL_TIMEOUT": "20", "AGENT_RUNTIME_HITL_TIMEOUT_ACTION": "reject"}
_FAULTS: Final = ("rpc_failed", "Traceback", '"level": "error"', "reader failed", "Fatal Python error")
_MOST_TOLD: Final = 20  # findings; all are counted
_LINES_SHOWN, _MOST_SHOWN = 40, 4000  # lines and characters of a fault


@dataclass(frozen=True, slots=True)
class Size:
    """How much is done."""

    frames: int = 1_000_000
    seconds: float = 600
    processes: int = 3


@dataclass(slots=True)
class Outcome:
    """What came of a run."""

    seed: str
    watch: Watch
    tally: Tally = field(default_factory=Tally)
    findings: list[Finding] = field(default_factory=list)
    faults: Sequence[str] = ()
    opened: int = 0
    """Sessions that could be opened by a server that had to read their logs from the beginning."""
    seconds: float = 0

    def unmet(self) -> list[str]:
        """Return what does not hold."""
        unmet = [*self.watch.troubles, *(f"the server logged: {line}" for line in self.faults)]
        if self.watch.growth() > MOST_GROWTH:
            unmet.append(f"the server grew by {self.watch.growth() >> 20} MiB after the first third")
        return unmet + [f"{one.where}, seed {one.seed}: {one.what}" for one in self.findings]


Tell = Callable[[str], None]


async def run(seed: str, size: Size, tell: Tell) -> Outcome:
    """Fuzz a server of its own."""
    async with _fuzzed_server() as (server, metrics_port):
        watch = Watch(server, metrics_port)
        outcome = Outcome(seed, watch)
        known = await _known(server.target)
        orders = [
            Order(server.target, f"{seed}.{number}", size.frames // size.processes, known)
            for number in range(size.processes)
        ]
        enough = asyncio.Event()
        began = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(watch.look(enough))
            clients = [tasks.create_task(_client(order, outcome, enough, tell)) for order in orders]
            tasks.create_task(_tell_how_far(outcome, enough, tell))
            with suppress(TimeoutError):
                async with asyncio.timeout(size.seconds):
                    await _until_over(clients, watch)
            enough.set()
        outcome.seconds = time.monotonic() - began
        outcome.faults = faults(server)
        if server.runs:
            await _open_all(server, outcome)
        return outcome


async def again(seed: str) -> Outcome:
    """Play one play again; it meets the state that it makes itself."""
    async with _fuzzed_server() as (server, metrics_port):
        watch = Watch(server, metrics_port)
        outcome = Outcome(seed, watch)
        order = Order(server.target, seed, 0, await _known(server.target), again=True)
        await _client(order, outcome, asyncio.Event(), lambda _: None)
        outcome.faults = faults(server)
        return outcome


def faults(server: ServerProcess) -> list[str]:
    """Return what a server has logged that it must not, with what stands behind it."""
    lines = (server.state_dir / "serve.log").read_text("utf-8", errors="replace").splitlines()
    places = [place for place, line in enumerate(lines) if any(fault in line for fault in _FAULTS)]
    return ["\n".join(lines[place : place + _LINES_SHOWN])[:_MOST_SHOWN] for place in places]


@asynccontextmanager
async def _fuzzed_server() -> AsyncIterator[tuple[ServerProcess, int]]:
    """Run a server, and tell it and the port of its metrics."""
    port = free_port()
    async with mock_server() as model:
        settings = _SETTINGS | {"AGENT_RUNTIME_LLM_BASE_URL": model.base_url}
        async with serving(settings, "--metrics-port", str(port)) as server:
            yield server, port


async def _known(target: str) -> Mapping[str, Sequence[str]]:
    """Return what there is to be named: sessions that are idle, closed, waiting and running, and what waits in them."""
    service = Service(target)
    async with service.channel:
        facts = (await build(service)).facts
    return {
        "session_id": ("good", "closed", "waiting", "running"),
        "approval_id": (facts.approval_id,),
        "arguments_sha256": (facts.arguments_sha256,),
        "call_id": (facts.asked_call_id, facts.dispatched_call_id),
    }


async def _client(order: Order, outcome: Outcome, enough: asyncio.Event, tell: Tell) -> None:
    """Run a client process and hear what it says, until it is enough."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "fuzzkit.client"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=TESTS,
        limit=1 << 24,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(order.written())
    try:
        async with asyncio.TaskGroup() as tasks:
            ending = tasks.create_task(_end(process.stdin, enough))
            async for line in process.stdout:
                _note(heard(line), outcome, tell)
            ending.cancel()
        status = await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if status:
        outcome.findings.append(Finding(order.seed, "the fuzzer", f"a client ended with status {status}"))


async def _end(writer: Any, enough: asyncio.Event) -> None:
    await enough.wait()
    writer.close()


def _note(said: Tally | Finding, outcome: Outcome, tell: Tell) -> None:
    if isinstance(said, Tally):
        outcome.tally.add(said)
        return
    outcome.findings.append(said)
    if len(outcome.findings) > _MOST_TOLD:
        return
    tell(f"seed {said.seed}, {said.where}: {said.what}")
    for frame in said.sent:
        tell(f"    sent {frame}")


async def _until_over(clients: Sequence["asyncio.Task[None]"], watch: Watch) -> None:
    while not watch.troubles and not all(client.done() for client in clients):  # noqa: ASYNC110 - two kinds of ends
        await asyncio.sleep(0.2)


async def _tell_how_far(outcome: Outcome, enough: asyncio.Event, tell: Tell) -> None:
    while not enough.is_set():
        with suppress(TimeoutError):
            async with asyncio.timeout(30):
                await enough.wait()
        size = outcome.watch.sizes[-1][1] if outcome.watch.sizes else 0
        tell(f"{outcome.tally.frames:,} frames, {outcome.tally.answers:,} answers, server {size >> 20} MiB")


async def _open_all(server: ServerProcess, outcome: Outcome) -> None:
    """Start the server anew and let every session be loaded from its log."""
    status = await server.stop()
    if status:
        outcome.watch.troubles.append(f"the server ended with status {status} when it was asked to")
    await server.start()
    service = Service(server.target)
    async with service.channel:
        found = await service.sessions.ListSessions(v1.ListSessionsRequest(page_size=500))
        for session in found.sessions:
            async with service.chat(session.session_id, client_id="afterwards", after_seq=session.head_seq) as chat:
                await chat.frame("welcome")
                outcome.opened += 1
    outcome.faults = faults(server)
