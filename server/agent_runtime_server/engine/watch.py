"""When somebody has to look after which feed; a look costs nothing for those that are not due.

Feeds stand in slots of time and not in an order among each other, so that noting one touches none of the others.
"""

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from agent_runtime_server.engine.feed import Feed

_SLOTS_A_SECOND: Final = 8
_NEVER: Final = -1


class Watch:
    """Feeds by the slot in which they are due."""

    def __init__(self) -> None:
        self._slots: dict[int, list[Feed]] = {}  # a feed that was noted anew still stands in its former slot too

    def look_after(self, feed: "Feed", when: float) -> None:
        """Have a feed looked after at this moment, and no sooner; 0 is as soon as anybody looks."""
        slot = math.ceil(when * _SLOTS_A_SECOND)
        if feed.due != slot:
            feed.due = slot
            self._slots.setdefault(slot, []).append(feed)

    def forget(self, feed: "Feed") -> None:
        """Look after a feed no more."""
        feed.due = _NEVER

    def take(self, now: float) -> "list[Feed]":
        """Return the feeds that are due; each must be put in again."""
        latest = math.floor(now * _SLOTS_A_SECOND)
        due: list[Feed] = []
        for slot in sorted(slot for slot in self._slots if slot <= latest):
            for feed in self._slots.pop(slot):
                if feed.due == slot:
                    feed.due = _NEVER
                    due.append(feed)
        return due
