"""Answers that are read at common moments wait for one of the next only, and share them out evenly."""

import hypothesis.strategies as st
from hypothesis import given

from agent_runtime_server.llm.moments import _CHOICE, TICK_SECONDS, Moments

_ROUNDING = 1e-6
MOMENTS = st.floats(0, 1e6)
WINDOWS = st.sampled_from([0, 0.001, 0.005, 0.02, 0.05, 1])


@given(st.lists(MOMENTS), MOMENTS, WINDOWS)
def test_the_wait_is_at_most_a_few_ticks_or_windows_however_many_were_there_before(
    before: list[float], when: float, window: float
) -> None:
    moments = Moments()
    for one in before:
        moments.take(one, window)
    wait = moments.take(when, window) - when
    longest = min(TICK_SECONDS, window) * _CHOICE if window else TICK_SECONDS
    assert -_ROUNDING <= wait <= longest + _ROUNDING


@given(st.lists(st.floats(100, 101, exclude_max=True), min_size=1))
def test_however_many_are_due_in_a_second_there_are_few_moments(due: list[float]) -> None:
    moments = Moments()
    assert len({moments.take(when, TICK_SECONDS) for when in due}) <= 1 / TICK_SECONDS + _CHOICE


@given(MOMENTS, st.integers(1, 100))
def test_those_who_come_together_are_parted_evenly(when: float, many: int) -> None:
    moments = Moments()
    taken = [moments.take(when, TICK_SECONDS) for _ in range(many)]
    shares = [taken.count(moment) for moment in {*taken}]
    assert len(shares) == min(_CHOICE, many)
    assert max(shares) - min(shares) <= 1


@given(st.lists(MOMENTS, min_size=1), WINDOWS)
def test_a_place_that_was_given_back_is_free(due: list[float], window: float) -> None:
    moments = Moments()
    for moment in [moments.take(when, window) for when in due]:
        moments.give_back(moment)
    assert [moments.take(when, window) for when in due[:1]] == [Moments().take(when, window) for when in due[:1]]
