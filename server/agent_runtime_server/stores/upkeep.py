"""What is asked of the stores in the background: who owns a running step, what is due, what is kept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from agent_runtime_server.stores.base import Snapshot


@dataclass(frozen=True, slots=True)
class Taken:
    """A runnable session whose lease this replica has just taken."""

    session_id: str
    lease_epoch: int
    drained: bool
    """Whether its owner let go of it, or it had none."""
    unfinished: bool = True
    """Whether that happened in the middle of a step."""


@dataclass(frozen=True, slots=True)
class Due:
    """A session with a deadline that has passed by the database's clock, which showed `moment`."""

    session_id: str
    moment: datetime


@dataclass(frozen=True, slots=True)
class SessionName:
    """Which session, and whose."""

    tenant: str
    session_id: str


@dataclass(frozen=True, slots=True)
class Compaction:
    """The events of a session from the oldest up to its new base are to be removed."""

    session_id: str
    oldest_seq: int
    base: Snapshot


class Leases(Protocol):
    """Ownership of running steps."""

    async def take_runnable(self, limit: int) -> Sequence[Taken]:
        """Take runnable sessions whose lease is free, run out, or held by a dead replica."""
        ...

    async def renew(self, epochs: Mapping[str, int]) -> Sequence[str]:
        """Renew the leases of these sessions; returns those that are no longer ours."""
        ...

    async def release(self, epochs: Mapping[str, int], *, unfinished: bool) -> None:
        """Let go of these leases, perhaps in the middle of a step, so that any replica may go on at once."""
        ...

    async def due(self, limit: int) -> Sequence[Due]:
        """Return sessions with a deadline that has passed."""
        ...


class ParkedTurns(Protocol):
    """Sessions whose turn may be waiting for a model; of what waits no longer too, until it is forgotten."""

    async def count(self) -> int:
        """Return how many there are."""
        ...

    async def look(self, limit: int) -> Sequence[str]:
        """Return sessions to look at, which nobody else is given for a while."""
        ...

    async def forget(self, heads: Mapping[str, int]) -> None:
        """Forget sessions, unless a turn was parked behind the seq that is given with each."""
        ...


class Retention(Protocol):
    """What is kept of sessions, and for how long; all of it may be called by several replicas at once."""

    async def claim(self, work: str, every: timedelta) -> bool:
        """Take a round of this work for all replicas; False when one was taken less than that long ago."""
        ...

    async def save(self, session_id: str, snapshot: Snapshot) -> None:
        """Keep a snapshot in place of the one before."""
        ...

    async def long(self, keep: int, limit: int) -> Sequence[SessionName]:
        """Return sessions with more than `keep` events."""
        ...

    async def compact(self, compaction: Compaction) -> bool:
        """Remove the oldest events with the snapshot that stands for them; False when it is not to be done now."""
        ...

    async def expire_idle(self, idle: timedelta, limit: int) -> None:
        """Let sessions expire now that nobody has used for that long."""
        ...

    async def expired(self, limit: int) -> Sequence[SessionName]:
        """Return sessions that have expired and are still open."""
        ...

    async def bury(self, since: timedelta, limit: int) -> None:
        """Take closed sessions that expired that long ago out of everybody's sight."""
        ...

    async def buried(self, limit: int) -> Sequence[str]:
        """Return sessions of which something is still to be removed."""
        ...

    async def remove(self, session_id: str, most: int) -> bool:
        """Remove rows of a buried session; True when there is nothing left to do here."""
        ...

    async def forget_reviewers_frames(self, age: timedelta, limit: int) -> int:
        """Remove frames of reviewers that are older; returns how many."""
        ...
