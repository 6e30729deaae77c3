"""Where a reader of a session's log stands."""

from enum import Enum, auto


class Place(Enum):
    """Where an event stands against what was read before."""

    NEXT = auto()
    KNOWN = auto()
    GAP = auto()


class Cursor:
    """The last seq read; each event passes once, in order, with none left out."""

    def __init__(self, after_seq: int = 0) -> None:
        self.last = after_seq

    def step(self, seq: int) -> Place:
        """Place `seq`, and move on when it is the next one."""
        if seq <= self.last:
            return Place.KNOWN
        if seq > self.last + 1:
            return Place.GAP
        self.last = seq
        return Place.NEXT
