"""The record of a tool call's life on this side: NEW (no record), STARTED, RESULT."""

import uuid
from dataclasses import dataclass, replace
from typing import Protocol

from agent_runtime import v1


@dataclass(frozen=True, slots=True)
class Entry:
    """What this client did about one call; the frame ids are kept so that retries repeat them."""

    start_frame: str
    result_frame: str = ""
    result: v1.ToolResult | None = None


class Records(Protocol):
    """Keeps entries by (session, call)."""

    def entry(self, session_id: str, call_id: str) -> Entry | None:
        """Return what was done about the call; None when nothing was."""
        ...

    def start(self, session_id: str, call_id: str) -> Entry:
        """Record, before the effect, that the call is about to be run."""
        ...

    def finish(self, session_id: str, result: v1.ToolResult) -> Entry:
        """Record the result before it is sent."""
        ...

    def forget(self, session_id: str, call_id: str) -> None:
        """Drop a call that is complete in the session's log, or was never run."""
        ...


def new_frame_id() -> str:
    """Return an idempotency key for a durable frame."""
    return uuid.uuid4().hex


def started(entry: Entry | None) -> Entry:
    """Return the entry of a call about to be run, for the first time or again."""
    return entry or Entry(new_frame_id())


def finished(entry: Entry | None, result: v1.ToolResult) -> Entry:
    """Return the entry of a call with its result."""
    return replace(started(entry), result_frame=new_frame_id(), result=result)


class MemoryRecords:
    """Records that end with the process; a restarted client then is another client."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str], Entry] = {}

    def entry(self, session_id: str, call_id: str) -> Entry | None:
        """Return what was done about the call."""
        return self._entries.get((session_id, call_id))

    def start(self, session_id: str, call_id: str) -> Entry:
        """Record the start."""
        key = (session_id, call_id)
        self._entries[key] = started(self._entries.get(key))
        return self._entries[key]

    def finish(self, session_id: str, result: v1.ToolResult) -> Entry:
        """Record the result."""
        key = (session_id, result.call_id)
        self._entries[key] = finished(self._entries.get(key), result)
        return self._entries[key]

    def forget(self, session_id: str, call_id: str) -> None:
        """Drop the call."""
        self._entries.pop((session_id, call_id), None)
