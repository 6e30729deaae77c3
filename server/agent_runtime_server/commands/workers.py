"""Several processes that serve on one port, kept running by a parent that serves nothing itself."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from time import monotonic
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

from agent_runtime_server.commands.port import reserved
from agent_runtime_server.commands.stopping import Stopping
from agent_runtime_server.core.settings import Settings
from agent_runtime_server.ground import Place, mock_model_url, store_urls
from agent_runtime_server.stores.postgres.database import open_database
from agent_runtime_server.stores.postgres.migrations import migrate
from agent_runtime_server.telemetry.merged import Merged
from agent_runtime_server.telemetry.metrics import served

_log = structlog.get_logger(__name__)

READY: Final = "worker ready, metrics on port"
_COMMAND: Final = (
    *(sys.executable, "-m", "agent_runtime_cli", "serve"),
    *("--worker", "--insecure", "--stop-on-stdin-close", "--metrics-port", "0"),
)
_START_SECONDS: Final = 60
_EXTRA_SECONDS: Final = 9  # beyond the drain, for what comes after it
_HURRY_SECONDS: Final = 9
_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 10.0
_SOUND_SECONDS: Final = 30  # a worker that lived that long has not failed at its start


class WorkerFailed(Exception):
    """The workers could not be started; each has said why on standard error."""


async def supervise(settings: Settings, place: Place, count: int, stopping: Stopping) -> None:
    """Serve by workers until asked to stop, and return when they are gone."""
    async with AsyncExitStack() as stack:
        port = stack.enter_context(reserved(place.host, place.port))
        database_url, redis_url = await store_urls(stack, settings)
        async with open_database(database_url, most_connections=1) as database:
            await migrate(database)
        command = [*_COMMAND, "--host", place.host, "--port", str(port)]
        if settings.llm_base_url is None:
            command += ["--mock-url", await mock_model_url(stack)]
        urls = {"AGENT_RUNTIME_DATABASE_URL": database_url, "AGENT_RUNTIME_REDIS_URL": redis_url}
        workers = Workers(command, os.environ | urls, stopping, settings.drain_seconds + _EXTRA_SECONDS)
        stack.enter_context(served(workers.registry, place.host, place.metrics_port))
        await workers.run(count, lambda: _say_ready(place.host, port))


def _say_ready(host: str, port: int) -> None:
    sys.stdout.write(f"agent-runtime serving on {host}:{port}\n")
    sys.stdout.flush()


class Workers:
    """Processes of one command, each started again when it dies."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], stopping: Stopping, stop_seconds: float
    ) -> None:
        self._command = command
        self._environment = environment
        self._stopping = stopping
        self._stop_seconds = stop_seconds
        self._processes: set[asyncio.subprocess.Process] = set()
        self._metrics_ports: dict[int, int] = {}  # by process id, of those that serve
        self.registry = CollectorRegistry()
        self.registry.register(Merged(lambda: self._metrics_ports))
        gauge = Gauge("agent_runtime_workers", "Worker processes that serve.", registry=self.registry)
        gauge.set_function(lambda: len(self._metrics_ports))
        self._restarts = Counter(
            "agent_runtime_worker_restarts", "Workers that died and were started again.", registry=self.registry
        )

    async def run(self, count: int, ready: Callable[[], None]) -> None:
        """Keep `count` workers until asked to stop and they are gone; call `ready` when all serve."""
        loop = asyncio.get_running_loop()
        first: list[asyncio.Future[None]] = [loop.create_future() for _ in range(count)]
        try:
            async with asyncio.TaskGroup() as tasks:
                keepers = [tasks.create_task(self._keep(served), name="worker") for served in first]
                announcer = tasks.create_task(_announce(first, ready), name="announce")
                stopper = tasks.create_task(self._stop(), name="stop workers")
                await asyncio.wait(keepers)
                announcer.cancel()
                stopper.cancel()
        except* WorkerFailed as failures:
            failed = failures.exceptions[0]
        else:
            return
        raise failed

    async def _keep(self, served: "asyncio.Future[None]") -> None:
        """Run one worker after the other; `served` is set when the first one serves, and it must come to that."""
        failures = 0
        while not self._stopping.asked.is_set():
            begun = monotonic()
            try:
                status = await self._run(served)
            except OSError as error:  # there is no memory, or no room for a process; others may still serve
                if not served.done():
                    raise
                status = error.errno or 1
            if self._stopping.asked.is_set():
                return
            if not served.done():
                raise WorkerFailed(f"a worker ended with status {status} before it served")
            failures = 0 if monotonic() - begun > _SOUND_SECONDS else failures + 1
            pause = min(_FIRST_PAUSE * 2 ** max(0, min(failures, 16) - 1), _LONGEST_PAUSE)
            _log.warning("a worker died and is started again", status=status, pause_seconds=pause)
            self._restarts.inc()
            await _wait(self._stopping.asked, pause)

    async def _run(self, served: "asyncio.Future[None]") -> int:
        """Run one worker to its end and return its status."""
        process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,  # its end ends the worker, so none outlives this process
            stdout=asyncio.subprocess.PIPE,
            env=self._environment,
            start_new_session=True,  # a Ctrl-C in the terminal is for us: workers are asked once
        )
        self._processes.add(process)
        try:
            if self._stopping.asked.is_set():  # while it was started
                _signal(process, signal.SIGTERM)
            metrics_port = await _metrics_port(process)
            if metrics_port is not None:
                self._metrics_ports[process.pid] = metrics_port
                if not served.done():
                    served.set_result(None)
            return await process.wait()
        finally:
            self._metrics_ports.pop(process.pid, None)
            _signal(process, signal.SIGKILL)
            await process.wait()
            self._processes.discard(process)

    async def _stop(self) -> None:
        """Ask all to stop when asked to, once more in a hurry, and end those that take too long."""
        await self._stopping.asked.wait()
        self._signal_all(signal.SIGTERM)
        if await _wait(self._stopping.hurry, self._stop_seconds):
            self._signal_all(signal.SIGTERM)
            await asyncio.sleep(_HURRY_SECONDS)
        self._signal_all(signal.SIGKILL)

    def _signal_all(self, number: signal.Signals) -> None:
        for process in self._processes:
            _signal(process, number)


async def _announce(first: Sequence["asyncio.Future[None]"], ready: Callable[[], None]) -> None:
    await asyncio.wait(first)
    ready()


async def _metrics_port(process: asyncio.subprocess.Process) -> int | None:
    """Return where a worker that serves tells of itself; None when it has ended, or is ended for being too slow."""
    assert process.stdout is not None
    with suppress(TimeoutError):
        async with asyncio.timeout(_START_SECONDS):
            found = re.fullmatch(rf"{READY} (\d+)\n", (await process.stdout.readline()).decode())
            return int(found[1]) if found else None
    _signal(process, signal.SIGKILL)
    return None


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.send_signal(number)


async def _wait(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event, but not for ever; whether it came."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            return await event.wait()
    return False
