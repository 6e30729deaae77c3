"""Answers that are read at common moments wait for the next one only."""

import hypothesis.strategies as st
from hypothesis import given

from agent_runtime_server.llm.transport import _TICK_SECONDS, common_moment

_ROUNDING = 1e-6
MOMENTS = st.floats(0, 1e6)
WINDOWS = st.sampled_from([0, 0.001, 0.005, 0.02, 0.05, 1])


@given(MOMENTS, WINDOWS)
def test_the_wait_is_no_longer_than_a_tick_or_the_window(when: float, seconds: float) -> None:
    wait = common_moment(when, seconds) - when
    assert -_ROUNDING <= wait <= min(_TICK_SECONDS, seconds or _TICK_SECONDS) + _ROUNDING


@given(st.lists(st.floats(100, 101, exclude_max=True), min_size=1))
def test_however_many_are_due_in_a_second_there_are_few_moments(due: list[float]) -> None:
    assert len({common_moment(when, 0.02) for when in due}) <= 1 / _TICK_SECONDS + 1
