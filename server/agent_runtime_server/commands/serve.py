"""`agent-runtime serve`: the service."""

import asyncio
import gc
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, Final

from cyclopts import Parameter
from pydantic import ValidationError

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # the embedded servers are started by fork and exec
# gRPC reads what clients send in the thread that hands it on, not in one of a pool that has to wake that one first.
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_listener")

from agent_runtime_server.commands.stopping import Stopping
from agent_runtime_server.commands.workers import READY, WorkerFailed, supervise
from agent_runtime_server.core.errors import ServiceError
from agent_runtime_server.core.settings import Settings
from agent_runtime_server.embedded import EmbeddedError
from agent_runtime_server.entrance import check_address
from agent_runtime_server.ground import Place
from agent_runtime_server.stores.postgres.migrations import MigrationError
from agent_runtime_server.telemetry import logs

_MOST_WORKERS = 64
_COLLECTIONS: Final = (20_000, 3, 1_000)  # of 20,000 new objects, of what three of these left, and hardly ever of all


def serve(
    *,
    host: Annotated[str, Parameter(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, Parameter(help="Port to listen on; 0 takes a free one.")] = 50051,
    metrics_port: Annotated[int, Parameter(help="Port of Prometheus metrics; 0 takes a free one.")] = 9464,
    workers: Annotated[int, Parameter(help="Processes that share the port; one serves by itself.")] = 1,
    insecure: Annotated[bool, Parameter(help="Listen beyond loopback without TLS and credentials.")] = False,
    stop_on_stdin_close: Annotated[bool, Parameter(help="Stop at once when standard input ends.", negative="")] = False,
    worker: Annotated[bool, Parameter(show=False, negative="")] = False,
    mock_url: Annotated[str | None, Parameter(show=False)] = None,
) -> None:
    """Serve agents over gRPC.

    Settings come from AGENT_RUNTIME_* variables and a .env file; without DATABASE_URL and REDIS_URL embedded servers
    are started, without LLM_BASE_URL a mock model answers. Logs go to stderr; when ready, one line on stdout says
    where it serves. SIGTERM and SIGINT let streams and steps go elsewhere first; a second one ends it at once.
    """
    try:
        _check_ports(port, metrics_port)
        _check_workers(workers)
        place = Place(host, port, metrics_port, worker, mock_url)
        settings = Settings()
        check_address(settings, host, insecure=insecure)
        logs.configure(settings.log_level)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_serve(settings, place, workers, stop_on_stdin_close=stop_on_stdin_close))
    except ValidationError as error:
        first = error.errors()[0]
        name = "AGENT_RUNTIME_" + "_".join(str(part) for part in first["loc"]).upper()
        raise SystemExit(f"agent-runtime serve: {name}: {first['msg']}") from error
    except (ServiceError, EmbeddedError, MigrationError, WorkerFailed, OSError, ValueError) as error:
        raise SystemExit(f"agent-runtime serve: {error}") from error


def _check_ports(*ports: int) -> None:
    if any(not 0 <= port <= 65535 for port in ports):
        raise ValueError("--port and --metrics-port must be between 0 and 65535")


def _check_workers(workers: int) -> None:
    if not 1 <= workers <= _MOST_WORKERS:
        raise ValueError(f"--workers must be between 1 and {_MOST_WORKERS}")


def _loop_factory() -> "Callable[[], asyncio.AbstractEventLoop] | None":
    """Return uvloop's factory where there is one."""
    with suppress(ImportError):
        import uvloop

        return uvloop.new_event_loop
    return None


async def _serve(settings: Settings, place: Place, workers: int, *, stop_on_stdin_close: bool) -> None:
    stopping = Stopping()
    stopping.listen(to_stdin=stop_on_stdin_close)
    if workers > 1:
        await supervise(settings, place, workers, stopping)
    else:
        await _serve_alone(settings, place, stopping)


async def _serve_alone(settings: Settings, place: Place, stopping: Stopping) -> None:
    from agent_runtime_server.app import running  # the parent of workers needs nothing of it

    async with running(settings, place, stopping.hurry) as server:
        _spare_the_collector()
        told = f"{READY} {server.metrics_port}" if place.is_worker else f"agent-runtime serving on {server.address}"
        sys.stdout.write(f"{told}\n")
        sys.stdout.flush()
        await stopping.asked.wait()


def _spare_the_collector() -> None:
    """Keep what lives as long as the process out of garbage collections, and make each of them short."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECTIONS)
