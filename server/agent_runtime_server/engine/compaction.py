"""Old events go: a log begins later, behind a snapshot that stands for what was before."""

import asyncio
from collections.abc import Sequence
from typing import Final

from agent_runtime import v1
from agent_runtime_server.engine.loading import begin
from agent_runtime_server.engine.snapshot import pack
from agent_runtime_server.engine.state import State
from agent_runtime_server.engine.turn import FOLD_VERSION, apply
from agent_runtime_server.stores.base import EventLog, Snapshot
from agent_runtime_server.stores.upkeep import Compaction, Retention, SessionName

_BATCH: Final = 500  # events a transaction


class Compactor:
    """Shortens logs to what is kept."""

    def __init__(self, log: EventLog, store: Retention, keep_events: int) -> None:
        self._log = log
        self._store = store
        self._keep_events = keep_events

    async def compact(self, name: SessionName) -> None:
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
        first_kept = session.head_seq - self._keep_events + 1
        if session.state == v1.SESSION_STATE_ACTIVE:
            first_kept = min(first_kept, session.current_turn.first_seq)
        return first_kept - session.oldest_seq


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
