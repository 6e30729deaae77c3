"""The plan of the kill matrix, and how it is told."""

from collections import Counter

from killkit.checker import Violation
from killkit.faults import BOUNDARIES, SLOW, Fault, Kind, plan
from killkit.matrix import Outcome
from killkit.report import document, percentile, table
from killkit.strike import Struck


def test_a_seed_decides_the_plan() -> None:
    assert plan(100, 7) == plan(100, 7)
    assert plan(100, 7) != plan(100, 8)


def test_a_long_plan_has_every_kind_at_every_boundary_and_twenty_of_each_slow_kind() -> None:
    planned = plan(1000, 1)
    assert len(planned) == 1000
    assert {(fault.kind, fault.boundary) for fault in planned} == {(k, b) for k in Kind for b in BOUNDARIES}
    kinds = Counter(fault.kind for fault in planned)
    assert all(kinds[kind] >= 20 for kind in SLOW)
    quick = [kinds[kind] for kind in Kind if kind not in SLOW]
    assert max(quick) - min(quick) <= 1


def test_a_plan_may_be_of_some_kinds_only() -> None:
    assert {fault.kind for fault in plan(10, 1, [Kind.CUT, Kind.REDIS])} == {Kind.CUT, Kind.REDIS}
    assert [fault.kind for fault in plan(3, 1, [Kind.REDIS])] == [Kind.REDIS] * 3


def test_the_report_lays_a_violation_at_the_door_of_the_faults_that_hit_its_session() -> None:
    hit = Struck(Fault(1, Kind.CUT, "user_message"), "w0", {"a": 0.5}, ["a-0"])
    missed = Struck(Fault(2, Kind.CUT, "turn_started"), "w0", {"b": 1.5}, ["b-0"])
    outcome = Outcome([hit, missed], [Violation("log", "a-0", "broken")], sessions=2, seconds=60)
    lines = [line.split() for line in table(outcome).splitlines()]
    assert ["TCP", "cut", "user_message", "1", "1"] in lines
    assert ["TCP", "cut", "turn_started", "1", "0"] in lines
    assert ["TCP", "cut", "2", "0.50", "1.50", "1.50"] in lines
    assert not outcome.clean
    assert document(outcome)["recovery"] == {"cut": {"runs": 2, "p50": 0.5, "p99": 1.5}}


def test_percentiles_are_values_that_were_seen() -> None:
    assert percentile([], 50) == 0
    assert percentile([3, 1, 2], 50) == 2
    assert percentile([3, 1, 2], 99) == 3
