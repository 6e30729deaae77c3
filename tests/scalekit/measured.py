"""What the costs are on this machine, and what one, two and four workers really do on it."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from agent_runtime_server.embedded import scratch_state_dir
from benchkit.cells import Cell, System, measure
from benchkit.crowds import crowd, share
from benchkit.processes import Meter, child, children, resident_bytes
from benchkit.systems import SERVE, Stand, stand
from scalekit.costs import Costs
from scalekit.stores import commit_costs, flush_ms, wake_up_ms
from scalekit.tools import turn_costs

STREAMS: Final = 128
WORKERS: Final = (1, 2, 4)
_WARM_SECONDS: Final = 1.0
_IDLE_STREAMS: Final = 2000
_IDLE_SECONDS: Final = 30
_FIXED_SECONDS: Final = 10
_CALLS: Final = 3

Seen = Mapping[str, Mapping[str, float]]


def databases(here: Stand) -> Mapping[str, list[int]]:
    """Return the processes of Postgres and of Valkey."""
    found: dict[str, list[int]] = {"postgres": [], "valkey-server": []}
    for pid, name in _commands(children(here.stores.holder_pid)):
        if name in found:
            found[name].append(pid)
    return found


def _commands(pids: Sequence[int]) -> Iterator[tuple[int, str]]:
    """Yield the processes that still run, with their names."""
    for pid in pids:
        try:
            yield pid, Path(f"/proc/{pid}/comm").read_text().strip()
        except OSError:
            continue


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
        others = {**databases(here), "mock": [here.mock_pid]}  # once the workers are connected
        meters = {name: Meter(pids) for name, pids in others.items()}
        figures = await measure(system, Cell("service", STREAMS, delay_ms), _WARM_SECONDS, seconds, 1, here.folder)
        turns = figures["turns/s"] * (seconds + _WARM_SECONDS)  # for the others worked while it warmed up too
        return {
            "turns/s": figures["turns/s"],
            "turn p50 ms": figures["turn p50 ms"],
            "turn p99 ms": figures["turn p99 ms"],
            "server ms": figures["cpu ms/turn"],
            "clients ms": figures["client ms/turn"],
            **{f"{name} ms": meter.seconds * 1000 / turns for name, meter in meters.items()},
        }


async def everything(seconds: float) -> tuple[Costs, Seen]:
    """Measure the parts, and one, two and four workers with answers at once and with paced ones."""
    with scratch_state_dir() as folder:
        async with stand(folder) as here:
            _tell("what a commit and a wake-up cost")
            a_commit, an_append = await commit_costs(here.stores.database_url, databases(here)["postgres"])
            wake_up = await wake_up_ms(here.stores.redis_url, databases(here)["valkey-server"])
            _tell("what a tool costs")
            async with here.service("tools") as (system, process):
                worker = resident_bytes([process.pid])
                plain = await turn_costs(here, system, databases(here)["postgres"], 0)
                tooled = await turn_costs(here, system, databases(here)["postgres"], _CALLS)
                fixed = await share(system.pids, _FIXED_SECONDS)  # of a worker that does nothing
            _tell(f"what {_IDLE_STREAMS} idle streams cost")
            idle = await crowd(here, _IDLE_STREAMS, _IDLE_SECONDS)
            seen = {}
            for number in WORKERS:
                for delay in (0, 5):
                    name = f"{number} workers, {delay} ms a token"
                    _tell(f"what {name} do")
                    seen[name] = await workers(here, number, delay, seconds)
            flush = flush_ms(folder)
    alone, quick, two = (seen[f"{name} ms a token"] for name in ("1 workers, 5", "1 workers, 0", "2 workers, 5"))
    costs = Costs(
        server_ms_a_turn=alone["server ms"],
        server_ms_a_quick_turn=quick["server ms"],
        server_ms_a_tool=(tooled["server ms"] - plain["server ms"]) / _CALLS,
        server_ms_a_stream_minute=(idle["idle CPU %"] / 100 - fixed) * 60_000 / idle["streams"],
        stream_kb=idle["KB/stream"],
        worker_mb=worker / 1e6,
        postgres_ms_a_commit=a_commit,
        postgres_ms_an_append=an_append,
        postgres_kb_a_turn=plain["log KB"],
        flush_ms=flush,
        redis_ms_a_wakeup=wake_up,
        redis_ms_a_turn=two["valkey-server ms"],  # one worker alone has nobody to tell
        load_ms_a_turn=alone["clients ms"] + alone["mock ms"],
        load_ms_a_quick_turn=quick["clients ms"] + quick["mock ms"],
    )
    return costs, seen


def _tell(what: str) -> None:
    sys.stderr.write(f"measuring {what}\n")
    sys.stderr.flush()
