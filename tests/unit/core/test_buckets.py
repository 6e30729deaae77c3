"""Buckets let through what their rate allows and no more, and the wait they tell is the right one."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from agent_runtime_server.core.buckets import Buckets, Draw, Drawn, Rate

RATES = st.builds(Rate, st.integers(1, 50), st.sampled_from([1, 7, 1000, 60_000]), st.integers(1, 40))
STEPS = st.lists(st.tuples(st.integers(0, 5000), st.integers(1, 5), st.booleans()), max_size=60)


@given(RATES, STEPS)
def test_never_more_passes_than_what_a_full_bucket_holds_and_what_comes_back(
    rate: Rate, steps: list[tuple[int, int, bool]]
) -> None:
    buckets, now = Buckets(), 0
    passed: list[tuple[int, int]] = []
    for pause, cost, _ in steps:
        now += pause
        if buckets.take([Draw("b", rate, cost, cost)], now).refused is None:
            passed.append((now, cost))
    for place, (since, _) in enumerate(passed):
        for until, _ in passed[place:]:
            # What costs more than a bucket can hold passes when it is full, and is paid back after it.
            costs = [cost for moment, cost in passed[place:] if moment <= until]
            within = sum(costs) - max(0, costs[-1] - rate.burst)
            assert within * rate.period_ms <= rate.capacity + (until - since) * rate.amount


@given(RATES, STEPS)
def test_waiting_as_long_as_told_is_enough_and_less_is_not(rate: Rate, steps: list[tuple[int, int, bool]]) -> None:
    buckets, now = Buckets(), 0
    for pause, cost, charge in steps:
        now += pause
        draw = Draw("b", rate, cost, None if charge else cost)
        answer = buckets.take([draw], now)
        if charge:
            assert answer == Drawn(), "what was spent is taken, into debt if need be"
        elif answer.refused is not None:
            assert buckets.take([draw], now + answer.wait_ms - 1).refused is not None
            now += answer.wait_ms
            assert buckets.take([draw], now) == Drawn()


@given(st.lists(RATES, min_size=1, max_size=4), STEPS)
def test_all_buckets_give_or_none_does(rates: list[Rate], steps: list[tuple[int, int, bool]]) -> None:
    buckets, now = Buckets(), 0
    draws = [Draw(f"b{place}", rate) for place, rate in enumerate(rates)]
    for pause, _, _ in steps:
        now += pause
        before = dict(buckets.levels)
        answer = buckets.take(draws, now)
        if answer.refused is None:
            continue
        assert buckets.levels == before
        assert buckets.take([draws[answer.refused]], now).wait_ms == answer.wait_ms, "that of the longest wait is named"


def test_a_clock_that_goes_back_brings_nothing_and_makes_waits_longer() -> None:
    buckets, draw = Buckets(), Draw("b", Rate(1, 1000, 1))
    buckets.take([draw], 5000)
    assert buckets.take([draw], 4000).wait_ms == 2000
    assert buckets.take([draw], 6000) == Drawn()


def test_what_is_owed_has_to_come_back_first() -> None:
    buckets, rate = Buckets(), Rate(100, 1000, 100)
    assert buckets.take([Draw("tokens", rate, 300, None)], 0) == Drawn()
    assert buckets.take([Draw("tokens", rate, 0, 1)], 0).wait_ms == 2010


def test_full_buckets_are_forgotten() -> None:
    buckets, rate = Buckets(), Rate(1, 10, 1)
    for number in range(20_000):
        buckets.take([Draw(f"b{number}", rate)], number)
    assert len(buckets.levels) <= 1025


def test_a_share_is_that_part_of_the_whole() -> None:
    shares = [Rate(10, 1000, 10).share(3), Rate(10, 1000, 2).share(3), Rate(10, 1000, 10).share(0)]
    assert shares == [Rate(10, 3000, 3), Rate(10, 3000, 1), Rate(10, 1000, 10)]


@pytest.mark.parametrize("wrong", [(0, 1, 1), (1, 0, 1), (1, 1, 0), (1, 86_400_000, 10**9)])
def test_a_rate_that_cannot_be_counted_is_none(wrong: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="of a rate"):
        Rate(*wrong)
