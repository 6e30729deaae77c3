"""When somebody has to look after which feed; a look costs nothing for those that are not due."""

import heapq
import itertools
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_runtime_server.engine.feed import Feed


class Watch:
    """Feeds in the order in which they are due."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Feed]] = []  # a heap; entries that a later one has replaced stay in it
        self._numbers = itertools.count()

    def look_after(self, feed: "Feed", when: float) -> None:
        """Have a feed looked after at this moment, and no sooner."""
        feed.due = when
        heapq.heappush(self._due, (when, next(self._numbers), feed))

    def forget(self, feed: "Feed") -> None:
        """Look after a feed no more."""
        feed.due = math.inf

    def take(self, now: float) -> "list[Feed]":
        """Return the feeds that are due; each must be put in again."""
        due = []
        while self._due and self._due[0][0] <= now:
            when, _, feed = heapq.heappop(self._due)
            if feed.due == when:
                feed.due = math.inf
                due.append(feed)
        return due
