"""What is known of a session's client tool calls, and what follows from it.

Fed with events only. During a replay it just collects; `due` is asked once the history is complete,
because a later event may say that a call is over.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import Enum, auto

from agent_runtime import v1
from agent_runtime_client.records import Entry


class Fate(Enum):
    """What to do about a dispatched call."""

    RUN = auto()
    """Nobody began it: report the start, run it, report the result."""
    RUN_AGAIN = auto()
    """It was begun and lost track of, and running it twice does no harm."""
    RESEND = auto()
    """It was run; only the result may not have arrived."""
    CONFESS = auto()
    """It was begun and lost track of: say OUTCOME_UNKNOWN, never run it again."""
    LEAVE = auto()
    """It is not ours, or it will be completed without us."""


@dataclass(slots=True)
class OpenCall:
    """A call that was dispatched to the client and is not completed."""

    call: v1.ToolCall
    turn_id: str
    dispatched: v1.SessionEvent
    fresh: bool
    """Whether it was dispatched just now, and not found in a replay."""
    started_by: str | None = None
    cancelled: bool = False


class Ledger:
    """The open calls of one session."""

    def __init__(self, client_id: str) -> None:
        self._client_id = client_id
        self._open: dict[str, OpenCall] = {}
        self._given: set[str] = set()

    def on_event(self, event: v1.SessionEvent, *, fresh: bool = False) -> None:
        """Take note of one event; `fresh` when it is no replay."""
        kind = event.WhichOneof("payload")
        if kind == "tool_call_dispatched":
            call = event.tool_call_dispatched.tool_call
            if call.executor == v1.TOOL_EXECUTOR_CLIENT:
                self._open.setdefault(call.call_id, OpenCall(call, event.turn_id, event, fresh))
        elif kind == "tool_call_started":
            started = event.tool_call_started
            if started.call_id in self._open:
                self._open[started.call_id].started_by = started.client_id
        elif kind == "tool_call_completed":
            self._close(event.tool_call_completed.result.call_id)
        elif kind == "turn_cancel_requested":
            for open_call in self.of_turn(event.turn_id):
                open_call.cancelled = True
        elif kind == "turn_finished":
            for open_call in self.of_turn(event.turn_id):
                self._close(open_call.call.call_id)

    def of_turn(self, turn_id: str) -> list[OpenCall]:
        """Return the open calls of a turn."""
        return [open_call for open_call in self._open.values() if open_call.turn_id == turn_id]

    def due(self) -> list[OpenCall]:
        """Return the open calls that were not returned before, in the order of their dispatch."""
        found = [open_call for call_id, open_call in self._open.items() if call_id not in self._given]
        self._given.update(open_call.call.call_id for open_call in found)
        return found

    def missing(self, call_ids: Collection[str]) -> bool:
        """Say whether any of `call_ids` was never heard of, so that older history must be read."""
        return any(call_id not in self._open for call_id in call_ids)

    def fate(self, open_call: OpenCall, entry: Entry | None, is_repeatable: Callable[[str], bool]) -> Fate:
        """Decide about a call that this process has not touched, from the log and the journal."""
        if entry is not None and entry.result is not None:
            return Fate.RESEND
        repeatable = is_repeatable(open_call.call.tool_name) and not open_call.cancelled
        if open_call.started_by not in (None, self._client_id):
            # Whoever began it may be gone for good; the first result wins.
            return Fate.RUN_AGAIN if repeatable else Fate.LEAVE
        begun = entry is not None or open_call.started_by is not None
        if not begun:
            return Fate.LEAVE if open_call.cancelled else Fate.RUN
        if repeatable:
            return Fate.RUN_AGAIN
        return Fate.CONFESS

    def _close(self, call_id: str) -> None:
        self._open.pop(call_id, None)
        self._given.discard(call_id)
