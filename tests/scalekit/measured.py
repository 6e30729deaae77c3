"""What the costs are on this machine, and what one, two and four workers really do on it."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchkit.cells import Cell, System, measure
from benchkit.processes import child, children, cpu_seconds
from benchkit.systems import SERVE, Stand, stand

STREAMS: Final = 128
WORKERS: Final = (1, 2, 4)


def commands(pids: Sequence[int]) -> Iterator[tuple[int, str]]:
    """Yield the processes that still run, with their names."""
    for pid in pids:
        try:
            yield pid, Path(f"/proc/{pid}/comm").read_text().strip()
        except OSError:
            continue


def databases(here: Stand) -> Mapping[str, list[int]]:
    """Return the processes of Postgres and of Valkey."""
    found: dict[str, list[int]] = {"postgres": [], "valkey-server": []}
    for pid, name in commands(children(here.stores.holder_pid)):
        if name in found:
            found[name].append(pid)
    return found


async def workers(here: Stand, number: int, delay_ms: int, seconds: float) -> dict[str, float]:
    """Put so many workers under load; returns turns a second and CPU milliseconds a turn, by who spends them."""
    settings = {
        "AGENT_RUNTIME_DATABASE_URL": here.stores.database_url,
        "AGENT_RUNTIME_REDIS_URL": here.stores.redis_url,
        "AGENT_RUNTIME_LLM_BASE_URL": here.mock_url,
        "AGENT_RUNTIME_LOG_LEVEL": "WARNING",
    }
    async with child(*SERVE, "0", "--workers", str(number), folder=here.folder, settings=settings) as process:
        target = await process.ready("agent-runtime serving on ")
        system = System("service", "service", target, children(process.pid))
        cell = Cell("service", STREAMS, delay_ms)
        spent = {name: cpu_seconds(pids) for name, pids in databases(here).items()}
        figures = await measure(system, cell, 1.0, seconds, 1, here.folder)
        turns = figures["turns/s"] * seconds
        return {
            "turns/s": figures["turns/s"],
            "server ms": figures["cpu ms/turn"],
            # The databases worked while it warmed up too, which the share of the time takes out again.
            **{
                f"{name} ms": (cpu_seconds(pids) - spent[name]) * 1000 / turns * seconds / (seconds + 1.0)
                for name, pids in databases(here).items()
            },
        }


async def everything(seconds: float) -> dict[str, dict[str, float]]:
    """Measure one, two and four workers, each with answers at once and with paced ones."""
    with _folder() as folder:
        async with stand(folder) as here:
            return {
                f"{number} workers, {delay} ms a token": await workers(here, number, delay, seconds)
                for number in WORKERS
                for delay in (0, 5)
            }


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="scale-", dir="/tmp") as name:  # sockets want a short path
        Path(name).chmod(0o711)
        yield Path(name)
