"""What happens to sessions with time: snapshots are kept, old events compacted, expired sessions closed and removed.

Every part goes in bounded batches, may be done by any replica, and harms nobody when two are at it or one dies.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final

import structlog

from agent_runtime_server.core.errors import StoreUnavailable
from agent_runtime_server.engine import lifecycle
from agent_runtime_server.engine.compaction import Compactor
from agent_runtime_server.engine.draft import SYSTEM
from agent_runtime_server.engine.hub import Hub
from agent_runtime_server.engine.session import Session
from agent_runtime_server.stores.base import EventLog
from agent_runtime_server.stores.upkeep import Retention, SessionName

_log = structlog.get_logger(__name__)

SNAPSHOT_EVENTS: Final = 200
"""After how many events a session is snapshot anew."""

_BATCH: Final = 500  # rows a transaction
_MOST_SESSIONS: Final = 100  # a round and kind of work
_SLACK: Final = 10  # the share of the kept events, one in so many, by which a log may be longer


@dataclass(frozen=True, slots=True)
class Policy:
    """How much is kept, for how long, and how often that is seen to."""

    keep_events: int = 10_000  # of a session; 0 keeps all
    idle: timedelta | None = None  # after which a session expires that says nothing else of it
    buried_after: timedelta = timedelta(seconds=60)  # for which an expired session can still be read
    reviewers_frames: timedelta = timedelta(days=7)
    every: timedelta = timedelta(seconds=5)
    snapshots_every: timedelta = timedelta(seconds=1)


class Keeper:
    """Sees to all of it; `run` must run while sessions are used."""

    def __init__(self, hub: Hub, log: EventLog, store: Retention, policy: Policy) -> None:
        self._hub = hub
        self._store = store
        self._policy = policy
        self._compactor = Compactor(log, store, policy.keep_events)

    async def run(self) -> None:
        """Keep snapshots of this replica's sessions, and take turns with the other replicas for the rest."""
        work: Sequence[tuple[str, Callable[[], Awaitable[None]]]] = (
            ("compact", self.compact),
            ("expire", self.expire),
            ("remove", self.remove),
        )
        next_round = time.monotonic()
        while True:
            await self._attempt(self.keep_snapshots)
            if time.monotonic() >= next_round:
                next_round = time.monotonic() + self._policy.every.total_seconds()
                for name, action in work:
                    await self._attempt(partial(self._in_turn, name, action))
            await asyncio.sleep(self._policy.snapshots_every.total_seconds())

    async def _in_turn(self, name: str, action: Callable[[], Awaitable[None]]) -> None:
        if await self._store.claim(name, self._policy.every):
            await action()

    async def _attempt(self, action: Callable[[], Awaitable[None]]) -> None:
        try:
            await action()
        except StoreUnavailable:
            return  # the hub says so; nothing here is urgent
        except Exception:  # noqa: BLE001 - told, and tried again
            _log.exception("retention failed")

    async def keep_snapshots(self) -> None:
        """Save the state of sessions that have grown, one after the other, so that commits are not held up."""
        for session in self._hub.roll.take_grown():
            if session.unsaved >= SNAPSHOT_EVENTS:
                await self._attempt(partial(self._keep_snapshot, session))

    async def _keep_snapshot(self, session: Session) -> None:
        snapshot = await session.snapshot()
        if snapshot is not None:
            await self._store.save(session.session_id, snapshot)

    async def compact(self) -> None:
        """Compact sessions that are longer than what is kept."""
        keep = self._policy.keep_events
        if keep:
            await self._each(await self._store.long(keep + keep // _SLACK, _MOST_SESSIONS), self._compactor.compact)

    async def expire(self) -> None:
        """Close sessions whose time is over."""
        if self._policy.idle is not None:
            await self._store.expire_idle(self._policy.idle, _BATCH)
        await self._each(await self._store.expired(_MOST_SESSIONS), self._close)

    async def _close(self, name: SessionName) -> None:
        session = await self._hub.session(name.session_id, name.tenant)
        await lifecycle.close(session, "the session has expired", SYSTEM)
        _log.info("an expired session was closed", session_id=name.session_id)

    async def remove(self) -> None:
        """Remove closed sessions that expired a while ago, and what reviewers' frames are too old to come again."""
        await self._store.bury(self._policy.buried_after, _MOST_SESSIONS)
        for session_id in await self._store.buried(_MOST_SESSIONS):
            while not await self._store.remove(session_id, _BATCH):
                pass
            _log.info("an expired session was removed", session_id=session_id)
        while await self._store.forget_reviewers_frames(self._policy.reviewers_frames, _BATCH) == _BATCH:
            pass

    async def _each(self, names: Sequence[SessionName], action: Callable[[SessionName], Awaitable[None]]) -> None:
        """Act on each session; what is wrong with one must not keep the others from it."""
        for name in names:
            try:
                await action(name)
            except StoreUnavailable:
                raise
            except Exception:  # noqa: BLE001 - as said
                _log.exception("a session cannot be seen to", session_id=name.session_id)
