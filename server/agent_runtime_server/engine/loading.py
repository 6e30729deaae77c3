"""A session's state from its snapshot and its log, page by page."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Final

from agent_runtime import v1
from agent_runtime_server.engine.appends import kind
from agent_runtime_server.engine.snapshot import UnreadableError, unpack
from agent_runtime_server.engine.state import State
from agent_runtime_server.engine.turn import FOLD_VERSION, apply
from agent_runtime_server.stores.base import EventLog, Loaded, Snapshot, StoredEvent

_PAGE: Final = 500
_AT_ONCE: Final = 100  # events folded before the others have a turn
_NO_VERSION: Final = 0  # of which there are no snapshots


class OvertakenError(Exception):
    """Events that were to be folded have been compacted meanwhile; load anew."""


async def load(log: EventLog, tenant: str, session_id: str) -> tuple[Loaded, State] | None:
    """Return a session as it was read and the state its snapshot holds, one without events where there is none."""
    loaded = await log.load(tenant, session_id, FOLD_VERSION)
    if loaded is None or loaded.snapshot is None:
        return None if loaded is None else (loaded, State(session_id))
    try:
        return loaded, unpack(loaded.snapshot.bytes)
    except UnreadableError:
        if loaded.row.session.oldest_seq > 1:
            raise
        loaded = await log.load(tenant, session_id, _NO_VERSION)
        return None if loaded is None else (loaded, State(session_id))


async def fold(log: EventLog, tenant: str, loaded: Loaded, state: State) -> AsyncIterator[Sequence[StoredEvent]]:
    """Fold the log up to its head; each page is told of when it is folded."""
    events = [v1.SessionEvent.FromString(payload) for payload in loaded.events]
    page = [StoredEvent(e.seq, kind(e), payload) for e, payload in zip(events, loaded.events, strict=True)]
    await fold_events(state, events)
    yield page
    while page and state.head_seq < loaded.row.session.head_seq:
        page = [*await _next_page(log, tenant, state)]
        yield page


async def _next_page(log: EventLog, tenant: str, state: State) -> Sequence[StoredEvent]:
    page = await log.events(tenant, state.session_id, state.head_seq, _PAGE)
    if page and page[0].seq != state.head_seq + 1:
        raise OvertakenError
    await fold_events(state, (v1.SessionEvent.FromString(event.payload) for event in page))
    return page


async def fold_events(state: State, events: Iterable[v1.SessionEvent]) -> None:
    """Fold events, but do not hold up the others with many."""
    for number, event in enumerate(events, start=1):
        apply(state, event)
        if number % _AT_ONCE == 0:
            await asyncio.sleep(0)


def begin(session_id: str, base: Snapshot | None) -> State:
    """Return the state right before the oldest event that is left."""
    return State(session_id) if base is None else unpack(base.bytes)
