"""A world: three replicas on one Postgres and one Valkey, clients with real tools, a reviewer, and proxies between."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from agent_runtime import v1
from agent_runtime_client import Client, ClientError
from killkit.checker import Story, Violation, check, check_reviewer
from killkit.client import Config
from killkit.programs import ClientProgram, Program
from killkit.proxy import proxying
from killkit.records import read
from killkit.seat import Seat
from killkit.sequential import replay_problems
from killkit.stores import MortalStore, mortal_stores
from servicekit.process import PROGRAM, ServerProcess

_CALM_POLLS: Final = 3
_POLL_SECONDS: Final = 0.4


@dataclass(frozen=True, slots=True)
class Size:
    """How large a world is, and how patient."""

    clients: int = 3
    seats: int = 2
    """Of each client."""
    replicas: int = 3
    workers: int = 2
    """Of the first replica; 0 makes it a single process as the others are."""
    lease_seconds: float = 10
    heartbeat_seconds: float = 2
    silence_seconds: float = 6
    """After which a client takes a stream for dead."""
    patience: float = 60
    """How long a session may take to go on after a fault, and the world to come to rest."""
    program: Sequence[str] = PROGRAM
    keeps_journal: bool = True

    def settings(self, stores: tuple[MortalStore, MortalStore], model_url: str) -> Mapping[str, str]:
        """Return the settings of the replicas."""
        return {
            "AGENT_RUNTIME_DATABASE_URL": stores[0].url,
            "AGENT_RUNTIME_REDIS_URL": stores[1].url,
            "AGENT_RUNTIME_LLM_BASE_URL": model_url,
            "AGENT_RUNTIME_LEASE_SECONDS": str(self.lease_seconds),
            "AGENT_RUNTIME_HEARTBEAT_SECONDS": str(self.heartbeat_seconds),
            "AGENT_RUNTIME_DRAIN_SECONDS": "2",
            "PYTHONPATH": str(Path(__file__).resolve().parent.parent),
        }


@dataclass(slots=True)
class World:
    """Everything that can be hurt, and everything that is known of it."""

    name: str
    folder: Path
    size: Size
    postgres: MortalStore
    valkey: MortalStore
    servers: list[ServerProcess] = field(default_factory=list)
    clients: list[ClientProgram] = field(default_factory=list)
    programs: list[Program] = field(default_factory=list)

    @property
    def seats(self) -> list[Seat]:
        """The seats of all clients."""
        return [seat for client in self.clients for seat in client.seats]

    def server_of(self, seat: Seat) -> ServerProcess | None:
        """Return the server, with workers or without, that serves a seat now."""
        return next((server for server in self.servers if seat.replica_pid in processes_of(server)), None)

    def client_of(self, seat: Seat) -> ClientProgram:
        """Return the program of a seat."""
        return next(client for client in self.clients if seat in client.seats)

    async def come_to_rest(self) -> None:
        """Let no more turns begin, and wait until all are over and everybody knows it, as long as patience lasts."""
        calm, until = 0, time.monotonic() + self.size.patience
        while calm < _CALM_POLLS and time.monotonic() < until:
            for client in self.clients:
                client.tell("quiet")
            await asyncio.sleep(_POLL_SECONDS)
            calm = calm + 1 if await self._is_calm() else 0

    async def _is_calm(self) -> bool:
        if any(seat.place.open_turns for seat in self.seats):
            return False
        with suppress(ClientError):
            async with Client(self._healthy().target) as client:
                heads = {seat: (await client.get_session(seat.session_id)).head_seq for seat in self.seats}
                return all(seat.place.left or seat.place.last_seq == head for seat, head in heads.items())
        return False

    def _healthy(self) -> ServerProcess:
        return next(server for server in self.servers if server.runs)

    async def judge(self) -> tuple[list[Violation], int]:
        """Return every violation that the world's records show, and how many sessions there were."""
        found: list[Violation] = []
        logs: dict[str, Sequence[v1.SessionEvent]] = {}
        async with Client(self._healthy().target) as client:
            for folder in sorted(self.folder.glob("seats/*/[0-9]*")):
                session_id = f"{folder.parent.name}-{folder.name}"
                logs[session_id] = [event async for event in client.events(session_id)]
                found += check(_story(session_id, logs[session_id], folder))
                found += [Violation("decided alike", session_id, text) for text in replay_problems(logs[session_id])]
        found += check_reviewer([*read(self.folder / "reviewer")], logs)
        for number, server in enumerate(self.servers):
            found += [Violation("no fault logged", f"{self.name} server {number}", one) for one in server.faults()]
        return found, len(logs)


def processes_of(server: ServerProcess) -> list[int]:
    """Return the processes of a server that serves: its workers, or itself."""
    if not server.ready:
        return []
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children")
    return [int(pid) for pid in children.read_text().split()] if server.options else [server.pid]


def _story(session_id: str, log: Sequence[v1.SessionEvent], folder: Path) -> Story:
    effects = (folder / "effects").read_text() if (folder / "effects").exists() else ""
    marks = {path.name: len(path.read_text().splitlines()) for path in folder.glob("workspace/runs/*")}
    runs = Counter(line.split()[0] for line in effects.splitlines())
    return Story(session_id, log, [*read(folder / "records")], runs, marks)


@asynccontextmanager
async def world(name: str, folder: Path, size: Size, model_url: str) -> AsyncIterator[World]:
    """Make a world in a folder of its own and keep it going while the block runs."""
    _made(folder)
    async with AsyncExitStack() as stack:
        stores = await stack.enter_async_context(mortal_stores(folder / "stores"))
        made = World(name, folder, size, *stores)
        settings = size.settings(stores, model_url)
        for number in range(size.replicas):
            workers = size.workers if number == 0 else 0
            made.servers.append(await _server(folder / f"server-{number}", settings, size, workers, stack))
        await _populate(made, stack)
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(program.run()) for program in made.programs]
            try:
                yield made
            finally:
                for program in made.programs:
                    program.end()
                await asyncio.wait(running, timeout=10)
                for program, task in zip(made.programs, running, strict=True):
                    task.cancel()
                    program.kill()


async def _server(
    folder: Path, settings: Mapping[str, str], size: Size, workers: int, stack: AsyncExitStack
) -> ServerProcess:
    options = ("--workers", str(workers), "--metrics-port", "0") if workers else ()
    server = ServerProcess(_made(folder), settings, *options, program=size.program)
    await server.start()
    stack.push_async_callback(server.kill)
    return server


def _made(folder: Path) -> Path:
    folder.mkdir(mode=0o711)
    return folder


async def _populate(made: World, stack: AsyncExitStack) -> None:
    targets = [server.target for server in made.servers]
    (made.folder / "seats").mkdir()
    for number in range(made.size.clients):
        seats = []
        for place in range(made.size.seats):
            proxy = await stack.enter_async_context(proxying(targets))
            seats.append(Seat(f"{made.name}c{number}s{place}", proxy))
        addresses = {seat.name: seat.proxy.address for seat in seats}
        config = Config(
            str(made.folder / "seats"),
            addresses,
            silence_seconds=made.size.silence_seconds,
            keeps_journal=made.size.keeps_journal,
        )
        made.clients.append(ClientProgram(config, seats, made.folder / f"client-{number}.log"))
    proxy = await stack.enter_async_context(proxying(targets))
    arguments = ["killkit.reviewer", proxy.address, str(made.folder / "reviewer"), str(made.size.silence_seconds)]
    made.programs = [*made.clients, Program(arguments, made.folder / "reviewer.log", lambda _: None)]
