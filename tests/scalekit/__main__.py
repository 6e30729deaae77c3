"""The command line of the model; `scripts/simulate-scale` runs it."""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

from scalekit import measured
from scalekit.capacity import Demand, needed
from scalekit.chart import Chart
from scalekit.costs import Costs, Fleet, Load
from scalekit.page import block, costs_table, filled
from scalekit.simulation import simulate

_DOCS: Final = Path(__file__).resolve().parent.parent.parent / "docs"
_LOADS: Final = {0: 2.0, 5: 320.0}  # milliseconds a token, and what the mock model then takes for an answer
_FLEETS: Final = (1, 4, 8, 16, 28)
_SHARES: Final = (0.2, 0.4, 0.6, 0.8, 0.9, 0.95)
_MILLION: Final = 1_000_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate from the costs in a file; measure them first, if that is asked."""
    asked = _parser().parse_args(arguments)
    if asked.measure:
        _write(asked.costs, *asyncio.run(measured.everything(asked.measure)))
    told = json.loads(asked.costs.read_text())
    costs = Costs.read(asked.costs)
    charts = {"scaling-workers": _by_workers(costs, asked.seed), "scaling-latency": _by_load(costs, asked.seed)}
    for name, chart in charts.items():
        (asked.out / f"{name}.svg").write_text(chart.svg())
        _say("\n".join(_table(chart)))
    checked, million = [*_checked(costs, told["seen"], asked.seed)], [*_million(costs)]
    _say("\n".join(["", *checked, "", *million]))
    page = asked.out / "scaling.md"
    if page.exists():
        parts = {"costs": costs_table(costs, told["from"]), "checked": block(checked), "million": block(million)}
        page.write_text(filled(page.read_text(), parts))
    return 0


def _write(path: Path, costs: Costs, seen: measured.Seen) -> None:
    origin = f"readings of `scripts/simulate-scale --measure` on a machine of {os.cpu_count()} cores, everything on it"
    rounded = {key: round(value, 4) for key, value in asdict(costs).items()}
    shown = {name: {key: round(value, 3) for key, value in found.items()} for name, found in seen.items()}
    path.write_text(json.dumps({"from": origin} | rounded | {"seen": shown}, indent=2) + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="simulate-scale", description="Simulate big fleets from measured costs.")
    parser.add_argument("--costs", type=Path, default=_DOCS / "scaling-costs.json", help="what things cost")
    parser.add_argument(
        "--out", type=Path, default=_DOCS, help="folder of the pictures, and of the page if it is there"
    )
    parser.add_argument("--seed", type=int, default=1, help="decides what chance brings (1)")
    parser.add_argument(
        "--measure", type=float, default=0, metavar="SECONDS", help="measure the costs first, each load for so long"
    )
    return parser


def _by_workers(costs: Costs, seed: int) -> Chart:
    """Turns a second that workers with a core each can do, by how many databases they share."""
    lines = {
        f"{shards} shard{'s' * (shards > 1)} of {cores} cores": [
            (workers, simulate(costs, Fleet(workers, shards, cores), _full(costs, workers), seed).rate)
            for workers in _FLEETS
            if workers >= shards
        ]
        for shards, cores in ((1, 2), (1, 8), (4, 2))
    }
    return Chart("Turns a second", "workers, a core each", "turns/s", lines)


def _full(costs: Costs, workers: int) -> Load:
    """Return a load of paced answers that no fleet of this size keeps up with."""
    streams = int(1.3 * workers * (320 + costs.server_ms_a_turn) / costs.server_ms_a_turn)
    return Load(streams=streams, seconds=2, warm_seconds=1)


def _by_load(costs: Costs, seed: int) -> Chart:
    """What a turn takes beyond its model, by how busy four workers are."""
    most = 4 * 1000 / costs.server_ms_a_turn
    lines: dict[str, list[tuple[float, float]]] = {}
    for share in _SHARES:
        seen = simulate(costs, Fleet(4), Load(rate=share * most, seconds=5), seed)
        for name, quantile in (("p50", 0.5), ("p99", 0.99)):
            lines.setdefault(f"{name} of a turn", []).append((share * 100, seen.percentile(quantile)))
            lines.setdefault(f"{name} of a commit", []).append((share * 100, seen.commit_percentile(quantile)))
    return Chart("What four workers add to a turn", "load, % of what they can do", "ms", lines)


def _table(chart: Chart) -> Iterator[str]:
    yield f"\n{chart.title} ({chart.up}) by {chart.across}"
    for name, points in chart.lines.items():
        yield f"  {name:<22}" + "".join(f"{x:>8g}: {y:<9.4g}" for x, y in points)


def _checked(costs: Costs, seen: Mapping[str, Mapping[str, float]], seed: int) -> Iterator[str]:
    """Say what the model makes of the machine that the costs were measured on, beside what it really did."""
    yield "One machine of 2 cores with everything on it, 128 streams: turns a second"
    yield f"  {'':<28}{'measured':>10}{'simulated':>11}{'off by':>9}"
    for workers in measured.WORKERS:
        for delay, answer_ms in _LOADS.items():
            name = f"{workers} workers, {delay} ms a token"
            load = Load(streams=measured.STREAMS, answer_ms=answer_ms, seconds=5)
            told = simulate(_paced(costs, delay), Fleet(workers, cores=2), load, seed).rate
            real = seen.get(name, {}).get("turns/s")
            if real:
                yield f"  {name:<28}{real:>10.0f}{told:>11.0f}{told / real - 1:>9.0%}"


def _paced(costs: Costs, delay_ms: int) -> Costs:
    """Return the costs of turns whose answers come at once or token by token."""
    if delay_ms:
        return costs
    return replace(costs, server_ms_a_turn=costs.server_ms_a_quick_turn, load_ms_a_turn=costs.load_ms_a_quick_turn)


def _million(costs: Costs) -> Iterator[str]:
    yield "A million live sessions, 3 tools a turn, workers of a core and 4 GB, shards of 8 cores"
    yield "  turns an hour of each     turns/s  workers  bound by    memory  shards      disk"
    for turns in (0.1, 1, 6, 20):
        need = needed(costs, Demand(_MILLION, turns))
        yield (
            f"  {turns:<24g}{need.turns_a_second:>9,.0f}{need.workers:>9}{need.bound_by:>10}"
            f"{need.memory_gb:>7,.0f} GB{need.shards:>8}{need.disk_mb_a_second:>5,.0f} MB/s"
        )


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
