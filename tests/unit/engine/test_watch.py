"""Feeds are looked after when they are due, each once, however often that was put off or brought forward."""

from dataclasses import dataclass
from typing import cast

from agent_runtime_server.engine.feed import Feed
from agent_runtime_server.engine.watch import Watch


@dataclass(eq=False)
class Due:
    """What a watch knows of a feed."""

    due: int = -1


def feeds(number: int) -> list[Feed]:
    return [cast("Feed", Due()) for _ in range(number)]


def test_a_feed_is_taken_when_it_is_due_and_no_sooner() -> None:
    watch, (first, second) = Watch(), feeds(2)
    watch.look_after(second, 20)
    watch.look_after(first, 10)
    assert watch.take(9.9) == []
    assert watch.take(10) == [first]
    assert watch.take(30) == [second]
    assert watch.take(40) == [], "what was taken must be put in again"


def test_feeds_are_taken_in_the_order_of_their_moments() -> None:
    watch, given = Watch(), feeds(5)
    for number in (3, 1, 4, 0, 2):
        watch.look_after(given[number], number + 1)
    assert watch.take(10) == given


def test_only_the_latest_moment_counts() -> None:
    watch, (put_off, brought_forward, twice) = Watch(), feeds(3)
    for feed, moments in ((put_off, (1, 5)), (brought_forward, (5, 0)), (twice, (1, 5, 1))):
        for moment in moments:
            watch.look_after(feed, moment)
    assert watch.take(1) == [brought_forward, twice]
    assert watch.take(5) == [put_off]


def test_a_feed_that_has_gone_is_not_looked_after() -> None:
    watch, (gone, comes_back) = Watch(), feeds(2)
    for feed in (gone, comes_back):
        watch.look_after(feed, 1)
        watch.forget(feed)
    watch.look_after(comes_back, 1)
    assert watch.take(1) == [comes_back]
