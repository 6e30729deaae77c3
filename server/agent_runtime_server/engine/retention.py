"""What happens to sessions with time: snapshots are kept, old events compacted, expired sessions closed and removed.

Every part goes in bounded batches, may be done by any replica, and harms nobody when two are at it or one dies.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final

import structlog

from agent_runtime import v1
from agent_runtime_server.core.errors import StoreUnavailable
from agent_runtime_server.engine import lifecycle
from agent_runtime_server.engine.draft import SYSTEM
from agent_runtime_server.engine.hub import Hub
from agent_runtime_server.engine.loading import begin
from agent_runtime_server.engine.session import Session
from agent_runtime_server.engine.snapshot import pack
from agent_runtime_server.engine.turn import FOLD_VERSION, State, apply
from agent_runtime_server.stores.base import Compaction, EventLog, Retention, SessionName, Snapshot

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
    every: timedelta = timedelta(seconds=10)
    snapshots_every: timedelta = timedelta(seconds=1)


class Keeper:
    """Sees to all of it; `run` must run while sessions are used."""

    def __init__(self, hub: Hub, log: EventLog, store: Retention, policy: Policy) -> None:
        self._hub = hub
        self._log = log
        self._store = store
        self._policy = policy

    async def run(self) -> None:
        """Keep snapshots of this replica's sessions, and take turns with the other replicas for the rest."""
        work: Sequence[tuple[str, Callable[[], Awaitable[None]]]] = (
            ("compact", self.compact),
            ("expire", self.expire),
            ("remove", self.remove),
        )
        while True:
            await self._attempt(self.keep_snapshots)
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
        for session in self._hub.alive():
            if session.unsaved >= SNAPSHOT_EVENTS:
                await self._attempt(partial(self._keep_snapshot, session))

    async def _keep_snapshot(self, session: Session) -> None:
        snapshot = await session.snapshot()
        if snapshot is not None:
            await self._store.save(session.session_id, snapshot)

    # -- compaction -------------------------------------------------------------------------------------------------

    async def compact(self) -> None:
        """Compact sessions that are longer than what is kept."""
        keep = self._policy.keep_events
        if keep:
            await self._each(await self._store.long(keep + keep // _SLACK, _MOST_SESSIONS), self.compact_session)

    async def compact_session(self, name: SessionName) -> None:
        """Remove events of one session, batch by batch, up to where they are kept."""
        while await self._compact_batch(name):
            pass

    async def _compact_batch(self, name: SessionName) -> bool:
        """Remove a batch; False when there is nothing left to remove."""
        row = await self._log.row(name.tenant, name.session_id)
        if row is None:
            return False
        oldest = row.session.oldest_seq
        count = self._removable(row.session)
        if count <= 0:
            return False
        base = await self._log.base(name.tenant, name.session_id, FOLD_VERSION)
        events = await self._log.events(name.tenant, name.session_id, oldest - 1, min(count, _BATCH))
        if not events or (base.seq if base is not None else 0) + 1 != events[0].seq or events[0].seq != oldest:
            return False  # another replica is at it
        whole = events[-1].seq - oldest + 1 == count
        state = await _cut(name.session_id, base, [v1.SessionEvent.FromString(e.payload) for e in events], whole=whole)
        if state is None:
            return False
        snapshot = Snapshot(state.head_seq, FOLD_VERSION, pack(state))
        return await self._store.compact(Compaction(name.session_id, oldest, snapshot))

    def _removable(self, session: v1.Session) -> int:
        """Return how many of the oldest events are not kept; those of the running turn always are."""
        first_kept = session.head_seq - self._policy.keep_events + 1
        if session.state == v1.SESSION_STATE_ACTIVE:
            first_kept = min(first_kept, session.current_turn.first_seq)
        return first_kept - session.oldest_seq

    # -- expiry -----------------------------------------------------------------------------------------------------

    async def expire(self) -> None:
        """Close sessions whose time is over."""
        if self._policy.idle is not None:
            await self._store.expire_idle(self._policy.idle, _BATCH)
        await self._each(await self._store.expired(_MOST_SESSIONS), self._close)

    async def _close(self, name: SessionName) -> None:
        session = await self._hub.session(name.session_id, name.tenant)
        await lifecycle.close(session, "the session has expired", SYSTEM)

    async def remove(self) -> None:
        """Remove closed sessions that expired a while ago, and what reviewers' frames are too old to come again."""
        await self._store.bury(self._policy.buried_after, _MOST_SESSIONS)
        for session_id in await self._store.buried(_MOST_SESSIONS):
            while not await self._store.remove(session_id, _BATCH):
                pass
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


async def _cut(
    session_id: str, base: Snapshot | None, events: Sequence[v1.SessionEvent], *, whole: bool
) -> State | None:
    """Return the state at the last of these events at which nothing was going on.

    Where something always was it is the last event: a turn may be longer than a batch. None when these are all that
    may go (`whole`): then the turn is left together.
    """
    state, at_rest = begin(session_id, base), 0
    for event in events:
        apply(state, event)
        if state.turn is None and not state.queue:
            at_rest = event.seq
    if at_rest == state.head_seq or not (at_rest or whole):
        return state
    if not at_rest:
        return None
    await asyncio.sleep(0)
    state = begin(session_id, base)
    for event in events[: at_rest - events[0].seq + 1]:
        apply(state, event)
    return state
