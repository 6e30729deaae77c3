"""Answers are read at common moments, one of the next only, share them out evenly, and leave others their turn."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, cast

import hypothesis.strategies as st
from hypothesis import given

from agent_runtime_server.llm.moments import _AT_ONCE, _CHOICE, TICK_SECONDS, Moments, Place

_ROUNDING = 1e-6
MOMENTS = st.floats(0, 1e6)
WINDOWS = st.sampled_from([0, 0.001, 0.005, 0.02, 0.05, 1])


class Loop:
    """As much of an event loop as is needed; its time goes from one timer to the next."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: dict[float, Callable[[], object]] = {}
        self.soon: list[Callable[[], object]] = []
        self.failures: list[Exception] = []

    def time(self) -> float:
        """Return the time."""
        return self.now

    def call_at(self, when: float, callback: Callable[..., object], *args: object) -> None:
        """Take a timer."""
        assert when not in self.timers, "one timer for each moment"
        self.timers[when] = lambda: callback(*args)

    def call_soon(self, callback: Callable[..., object], *args: object) -> None:
        """Take a call for the next round."""
        self.soon.append(lambda: callback(*args))

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Note what went wrong."""
        self.failures.append(context["exception"])

    def round(self) -> None:
        """Call what is to be called now."""
        calls, self.soon = self.soon, []
        if not calls:
            self.now = min(self.timers)
            calls = [self.timers.pop(self.now)]
        for call in calls:
            call()


class Crowd:
    """Some who wait, and when each of them was called."""

    def __init__(self, whens: Sequence[float], window: float) -> None:
        self.loop = Loop()
        self.moments = Moments(cast("Any", self.loop))
        self.window = window
        self.called: dict[int, float] = {}
        self.late: list[float] = []
        self.places = [self.wait(number, when) for number, when in enumerate(whens)]

    def wait(self, number: int, when: float) -> Place:
        """Let one more wait."""

        def come(late: float) -> None:
            self.called[number] = self.loop.now
            self.late.append(late)

        return self.moments.wait(when, self.window, come)

    def run(self) -> int:
        """Go on until nobody waits, and return the number of rounds that it took."""
        rounds = 0
        while self.loop.timers or self.loop.soon:
            self.loop.round()
            rounds += 1
        return rounds


@given(st.lists(MOMENTS, min_size=1), WINDOWS)
def test_everybody_is_called_within_a_few_ticks_or_windows(whens: list[float], window: float) -> None:
    crowd = Crowd(whens, window)
    crowd.run()
    longest = min(TICK_SECONDS, window) * _CHOICE if window else TICK_SECONDS
    for number, when in enumerate(whens):
        assert -_ROUNDING <= crowd.called[number] - when <= longest + _ROUNDING


@given(st.lists(st.floats(100, 101, exclude_max=True), min_size=1))
def test_however_many_are_due_in_a_second_there_are_few_moments(whens: list[float]) -> None:
    crowd = Crowd(whens, TICK_SECONDS)
    assert len(crowd.loop.timers) <= 1 / TICK_SECONDS + _CHOICE


@given(MOMENTS, st.integers(1, 100))
def test_those_who_come_together_are_parted_evenly(when: float, many: int) -> None:
    crowd = Crowd([when] * many, TICK_SECONDS)
    crowd.run()
    shares = Counter(crowd.called.values()).values()
    assert len(shares) == min(_CHOICE, many)
    assert max(shares) - min(shares) <= 1


@given(MOMENTS, st.integers(1, 200))
def test_a_crowd_is_called_a_few_in_each_round_and_none_of_them_counts_as_late_for_it(when: float, many: int) -> None:
    crowd = Crowd([when] * many, 0)
    assert crowd.run() == -(-many // _AT_ONCE)
    assert crowd.late == [0.0] * many


@given(st.lists(MOMENTS, min_size=1), WINDOWS, st.data())
def test_who_cancels_is_not_called(whens: list[float], window: float, data: st.DataObject) -> None:
    crowd = Crowd(whens, window)
    gone = data.draw(st.sets(st.integers(0, len(whens) - 1)))
    for number in gone:
        crowd.places[number].cancel()
    crowd.run()
    assert crowd.called.keys() == {*range(len(whens))} - gone


@given(MOMENTS, st.integers(0, _CHOICE - 1))
def test_a_place_that_was_given_back_is_the_next_ones(when: float, leaver: int) -> None:
    crowd = Crowd([when] * _CHOICE, TICK_SECONDS)
    before = [*crowd.loop.timers]
    crowd.places[leaver].cancel()
    crowd.wait(_CHOICE, when)
    crowd.run()
    assert crowd.called[_CHOICE] == before[leaver]


def test_who_is_cancelled_by_another_of_the_same_moment_is_not_called() -> None:
    crowd = Crowd([], 0)
    first = crowd.moments.wait(1, 0, lambda _late: second.cancel())
    second = crowd.wait(2, 1)
    crowd.run()
    assert not crowd.called
    first.cancel()


@given(st.integers(0, 50))
def test_what_goes_wrong_with_one_is_told_and_leaves_the_others_as_they_are(before: int) -> None:
    crowd = Crowd([1.0] * before, 0)
    crowd.moments.wait(1, 0, lambda _late: [][0])
    crowd.wait(before, 1)
    crowd.run()
    assert [*crowd.called] == [*range(before + 1)]
    assert [type(failure) for failure in crowd.loop.failures] == [IndexError]
