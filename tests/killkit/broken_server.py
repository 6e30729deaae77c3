"""A server with a bug on purpose: `python -m killkit.broken_server BUG serve …`; the checker has to find out.

fencing  whoever writes, writes, whatever others have written since
dedup    a frame that comes again is taken for a new one
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from agent_runtime import v1
from agent_runtime_cli import main
from agent_runtime_server.engine.runner import Apply, Runner
from agent_runtime_server.engine.session import Session
from agent_runtime_server.engine.turn import Effect
from agent_runtime_server.stores.base import Append, Appended, Outcome, StoredEvent
from agent_runtime_server.stores.postgres.log import PostgresLog

_append = PostgresLog.append


async def _append_anyway(self: PostgresLog, append: Append) -> Appended:
    """Write behind whatever is there by now, under any lease or none."""
    appended = await _append(self, replace(append, epoch=None))
    while appended.outcome is Outcome.CONFLICT:
        head = (await self.heads([append.session_id]))[append.session_id]
        moved = [_renumbered(event, head + place) for place, event in enumerate(append.events, start=1)]
        append = replace(append, head=head, epoch=None, events=moved)
        appended = await _append(self, append)
    return appended


def _renumbered(stored: StoredEvent, seq: int) -> StoredEvent:
    event = v1.SessionEvent.FromString(stored.payload)
    event.seq = seq
    return StoredEvent(seq, stored.kind, event.SerializeToString())


async def _never_give_up(self: Session, epoch: int) -> bool:
    return False


def _never_interrupt(self: Session, interrupt: Callable[[Effect | None], None] | None) -> None:
    pass


async def _conclude_anyway(self: Runner, effect: Effect, apply: Apply) -> None:
    await self._persist(lambda: self._session.commit(apply))  # by no lease


async def _append_without_frame(self: PostgresLog, append: Append) -> Appended:
    return await _append(self, replace(append, frame=None))


def _without_fencing() -> None:
    PostgresLog.append = _append_anyway  # type: ignore[method-assign] # that is the bug
    Session.give_up = _never_give_up  # type: ignore[method-assign] # so is this
    Session.on_change = _never_interrupt  # type: ignore[method-assign] # and this
    Runner._conclude = _conclude_anyway  # type: ignore[method-assign] # and this


def _without_dedup() -> None:
    PostgresLog.append = _append_without_frame  # type: ignore[method-assign] # that is the bug


BUGS: Final[Mapping[str, Callable[[], None]]] = {"fencing": _without_fencing, "dedup": _without_dedup}


if __name__ == "__main__":
    BUGS[sys.argv.pop(1)]()
    main()
