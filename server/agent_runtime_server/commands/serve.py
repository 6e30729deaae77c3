"""`agent-runtime serve`: the service."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated

from cyclopts import Parameter
from pydantic import ValidationError

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # the embedded servers are started by fork and exec

from agent_runtime_server.app import running
from agent_runtime_server.core.errors import ServiceError
from agent_runtime_server.core.settings import Settings
from agent_runtime_server.embedded import EmbeddedError
from agent_runtime_server.entrance import check_address
from agent_runtime_server.stores.postgres.migrations import MigrationError
from agent_runtime_server.telemetry import logs


def serve(
    *,
    host: Annotated[str, Parameter(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, Parameter(help="Port to listen on; 0 takes a free one.")] = 50051,
    metrics_port: Annotated[int, Parameter(help="Port of Prometheus metrics; 0 takes a free one.")] = 9464,
    insecure: Annotated[bool, Parameter(help="Listen beyond loopback without TLS and credentials.")] = False,
    stop_on_stdin_close: Annotated[bool, Parameter(help="Stop when standard input ends.", negative="")] = False,
) -> None:
    """Serve agents over gRPC.

    Settings come from AGENT_RUNTIME_* variables and a .env file; without DATABASE_URL and REDIS_URL embedded servers
    are started, without LLM_BASE_URL a mock model answers. Logs go to stderr; when ready, one line on stdout says
    where it serves.
    """
    try:
        _check_ports(port, metrics_port)
        settings = Settings()
        check_address(settings, host, insecure=insecure)
        logs.configure(settings.log_level)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_serve(settings, host, port, metrics_port, stop_on_stdin_close=stop_on_stdin_close))
    except ValidationError as error:
        first = error.errors()[0]
        name = "AGENT_RUNTIME_" + "_".join(str(part) for part in first["loc"]).upper()
        raise SystemExit(f"agent-runtime serve: {name}: {first['msg']}") from error
    except (ServiceError, EmbeddedError, MigrationError, OSError, ValueError) as error:
        raise SystemExit(f"agent-runtime serve: {error}") from error


def _check_ports(*ports: int) -> None:
    if any(not 0 <= port <= 65535 for port in ports):
        raise ValueError("--port and --metrics-port must be between 0 and 65535")


def _loop_factory() -> "Callable[[], asyncio.AbstractEventLoop] | None":
    """Return uvloop's factory where there is one."""
    with suppress(ImportError):
        import uvloop

        return uvloop.new_event_loop
    return None


async def _serve(settings: Settings, host: str, port: int, metrics_port: int, *, stop_on_stdin_close: bool) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if stop_on_stdin_close:
        _watch_stdin(stop)
    async with running(settings, host, port, metrics_port) as server:
        sys.stdout.write(f"agent-runtime serving on {server.address}\n")
        sys.stdout.flush()
        await stop.wait()


def _watch_stdin(stop: asyncio.Event) -> None:
    try:
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), _on_stdin, stop)
    except PermissionError as error:  # files and /dev/null cannot be waited for
        raise ValueError("--stop-on-stdin-close needs a pipe or a terminal on standard input") from error


def _on_stdin(stop: asyncio.Event) -> None:
    """Read what came; at the end of input, stop."""
    if not os.read(sys.stdin.fileno(), 4096):
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        stop.set()
