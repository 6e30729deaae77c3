"""The command line of the benchmark."""

import argparse
import asyncio
import json
import os
import platform
import random
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from agent_runtime_server.embedded import scratch_state_dir
from benchkit import crowds, moments, report
from benchkit.cells import Cell, Figures, measure, medians, shuffled
from benchkit.figures import Figure, figures
from benchkit.peers import install
from benchkit.systems import Stand, everything, stand

_TOKENS: Final = 64
_PEER_SECONDS: Final = (5.0, 10.0)  # to warm up and to be measured in, for a turn of theirs may take that long
_PATIENCE_SECONDS: Final = 30 * 60


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    repeats: int
    seconds: float
    warm: float
    streams: Sequence[int]
    idle: int
    idle_seconds: float
    active_seconds: float
    long_log: int


FULL: Final = Plan(5, 2.5, 1, (1, 32, 64, 128, 256), 10_000, 60, 20, 10_000)
QUICK: Final = Plan(2, 1.5, 0.8, (1, 32, 64, 128), 1_000, 20, 8, 2_000)


def main() -> int:
    """Measure, and tell."""
    asked = _arguments()
    plan = QUICK if asked.quick else FULL
    idle = plan.idle if asked.idle is None else asked.idle
    began = time.time()
    with scratch_state_dir() as folder:
        cells, extra = asyncio.run(_bounded(plan, idle, asked, folder))
    told = figures(cells, extra, asked.peers)
    _print(report.text(cells, extra, told))
    if asked.compare:
        _print(report.compared(json.loads(asked.compare.read_text()), told, cells))
    _save(asked.out, cells, extra, told, {"seed": asked.seed, "quick": asked.quick, "began": began})
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less of everything, in under five minutes")
    parser.add_argument("--seed", type=int, default=1, help="of the order of measurements")
    parser.add_argument("--idle", type=int, metavar="N", help="open streams of the idle part; 0 leaves it out")
    parser.add_argument("--peers", nargs="*", default=[], choices=install.PEERS, help="other servers to install")
    parser.add_argument("--peers-dir", type=Path, help="where their environments are kept")
    parser.add_argument("--compare", type=Path, metavar="OLD.json", help="an earlier run")
    parser.add_argument("--out", type=Path, default=Path("bench"), help="folder of the results")
    return parser.parse_args()


async def _bounded(
    plan: Plan, idle: int, asked: argparse.Namespace, folder: Path
) -> tuple[dict[str, Figures], dict[str, Figures]]:
    async with asyncio.timeout(_PATIENCE_SECONDS), stand(folder) as here:
        peers = await install.environments(asked.peers, asked.peers_dir or folder / "peers")
        cells = await _loads(plan, here, peers, asked.seed)
        extra: dict[str, Figures] = {}
        extra["lengths"] = await moments.lengths(here, plan.long_log)
        extra["start"] = await moments.start(here)
        extra["recovery"] = await moments.recovery(here)
        if idle:
            extra["crowd"] = await crowds.crowd(here, idle, plan.idle_seconds, plan.active_seconds)
        return cells, extra


async def _loads(plan: Plan, here: Stand, peers: Mapping[str, Path], seed: int) -> dict[str, Figures]:
    """Measure every cell as often as planned, each round in an order of its own."""
    chance = random.Random(seed)
    seen: dict[str, list[Figures]] = {}
    async with everything(here, peers):
        for repeat in range(plan.repeats):
            for cell in shuffled(_cells(plan, [*peers]), chance):
                system = here.systems[cell.system]
                warm, seconds = _PEER_SECONDS if cell.system in peers else (plan.warm, plan.seconds)
                found = await measure(system, cell, warm, seconds, seed + repeat, here.folder)
                seen.setdefault(cell.name, []).append({**found, "tokens/s": found["turns/s"] * _TOKENS})
                sys.stderr.write(".")
                sys.stderr.flush()
    return {name: medians(found) for name, found in seen.items()}


def _cells(plan: Plan, peers: Sequence[str]) -> list[Cell]:
    cells = [Cell("bare", streams, 0) for streams in plan.streams]
    for system in ("direct", "service", "per token"):
        cells += [Cell(system, streams, delay) for streams in plan.streams for delay in (0, 5)]
    return cells + [Cell(system, *load) for system in ("workers", *peers) for load in ((32, 0), (128, 5))]


def _save(
    folder: Path,
    cells: Mapping[str, Figures],
    extra: Mapping[str, Figures],
    told: Sequence[Figure],
    run: dict[str, Any],
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    machine = {"cpus": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()}
    found = {"run": run | machine, "cells": cells, "extra": extra, "figures": [asdict(one) for one in told]}
    (folder / "bench.json").write_text(json.dumps(found, indent=1) + "\n")
    (folder / "bench.svg").write_text(report.picture(cells))


def _print(told: str) -> None:
    sys.stdout.write(f"\n{told}\n")


if __name__ == "__main__":
    sys.exit(main())
