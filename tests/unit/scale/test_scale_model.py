"""The model of big fleets: what must hold of it whatever the costs are."""

from dataclasses import fields, replace

import pytest

from scalekit.capacity import Demand, needed
from scalekit.chart import Chart
from scalekit.costs import Costs, Fleet, Load
from scalekit.page import costs_table, filled
from scalekit.simulation import Seen, simulate

COSTS = Costs(
    server_ms_a_turn=1.0,
    server_ms_a_quick_turn=0.8,
    server_ms_a_tool=1.0,
    server_ms_a_stream_minute=0.2,
    stream_kb=40,
    worker_mb=100,
    postgres_ms_a_commit=0.3,
    postgres_ms_an_append=0.05,
    postgres_kb_a_turn=4,
    flush_ms=0.3,
    redis_ms_a_wakeup=0.01,
    redis_ms_a_turn=0.1,
    load_ms_a_turn=1.0,
    load_ms_a_quick_turn=0.5,
)
BRIEF = Load(seconds=1.0, warm_seconds=1.0, answer_ms=100.0)


def run(fleet: Fleet, seed: int = 1, *, rate: float = 0, streams: int = 0) -> Seen:
    return simulate(COSTS, fleet, replace(BRIEF, rate=rate, streams=streams), seed)


def test_the_same_seed_brings_the_same() -> None:
    assert run(Fleet(2), rate=200).took_ms == run(Fleet(2), rate=200).took_ms
    assert run(Fleet(2), rate=200).took_ms != run(Fleet(2), seed=2, rate=200).took_ms


def test_what_is_offered_comes_out_while_there_is_room() -> None:
    assert run(Fleet(2), rate=400).rate == pytest.approx(400, rel=0.15)


def test_a_full_worker_does_what_its_core_allows() -> None:
    assert run(Fleet(1), streams=400).rate == pytest.approx(1000 / COSTS.server_ms_a_turn, rel=0.1)


def test_workers_add_up_until_the_database_is_full() -> None:
    heavy = replace(COSTS, postgres_ms_an_append=0.4)

    def rate(workers: int, shards: int = 1) -> float:
        load = replace(BRIEF, streams=200 * workers)
        return simulate(heavy, Fleet(workers, shards, shard_cores=1), load).rate

    alone = rate(1)
    assert rate(4, shards=4) == pytest.approx(4 * alone, rel=0.1)
    assert rate(4) < 2 * alone


def test_a_busy_server_puts_more_into_a_transaction() -> None:
    slow = replace(COSTS, flush_ms=20.0)
    quiet = simulate(slow, Fleet(1), replace(BRIEF, rate=5))
    busy = simulate(slow, Fleet(1), replace(BRIEF, rate=600))
    assert quiet.batch < 2 < 5 < busy.batch


def test_a_machine_that_all_share_is_full_once() -> None:
    two, four = run(Fleet(2, cores=2), streams=600), run(Fleet(4, cores=2), streams=600)
    assert two.machine_busy == pytest.approx(1, abs=0.05)
    assert four.rate == pytest.approx(two.rate, rel=0.1)


def test_a_million_quiet_sessions_need_memory_and_busy_ones_cores() -> None:
    assert needed(COSTS, Demand(1_000_000, 0.01)).bound_by == "memory"
    busy = needed(COSTS, Demand(1_000_000, 60))
    assert busy.bound_by == "cpu"
    assert busy.shards > 1
    assert busy.workers > needed(COSTS, Demand(1_000_000, 6)).workers


def test_a_chart_names_its_lines() -> None:
    picture = Chart("turns & workers", "workers", "turns/s", {"<1 shard>": [(1, 10), (2, 20)]}).svg()
    assert "turns &amp; workers" in picture
    assert "&lt;1 shard&gt;" in picture
    assert picture.count("<circle") == 2


def test_a_page_keeps_its_marks_and_gets_new_text_between_them() -> None:
    page = "before\n<!-- a -->\nold\nold\n<!-- end of a -->\nafter\n"
    once = filled(page, {"a": "new"})
    assert once == "before\n<!-- a -->\nnew\n<!-- end of a -->\nafter\n"
    assert filled(once, {"a": "newer"}) == once.replace("new", "newer")
    with pytest.raises(LookupError, match="no place for b"):
        filled(page, {"b": "new"})


def test_every_cost_is_told() -> None:
    table = costs_table(COSTS, "readings")
    assert table.count("\n| ") == len(fields(COSTS)) + 2
