"""What a server asks of Postgres, read from the log of Postgres itself."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import asyncpg

_ENTRY: Final = re.compile(r"^\d{4}-\d\d-\d\d [\d:.]+ \w+ \[(\d+)\] (\w+):  ", re.MULTILINE)
_BACKGROUND: Final = ("SELECT session_id, head_seq FROM sessions", "SET lease_until")


@dataclass(slots=True)
class Statements:
    """The statements about one session while a block ran, in order, by the first words that tell them apart."""

    seen: list[str] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """What each statement is for."""
        return [_name(text) for text in self.seen]


class StatementLog:
    """The log of a Postgres that logs every statement."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextmanager
    def about(self, session_id: str) -> Iterator[Statements]:
        """Note which statements with a session's id among their arguments are executed while the block runs.

        What a replica asks in the background about whatever is open is left out: it comes whenever a second is over.
        """
        start = self._path.stat().st_size
        found = Statements()
        yield found
        with self._path.open("rb") as log:
            log.seek(start)
            text = log.read().decode(errors="replace")
        found.seen = [one for one, arguments in _executed(text) if session_id in arguments and not _is_background(one)]


async def log_statements(url: str) -> None:
    """Have Postgres log every statement."""
    connection = await asyncpg.connect(url)
    try:
        for statement in ("ALTER SYSTEM SET log_statement = 'all'", "SELECT pg_reload_conf()"):
            await connection.execute(statement)
    finally:
        await connection.close()


def _executed(text: str) -> Iterator[tuple[str, str]]:
    """Yield each statement with its arguments, which follow it in an entry of their own."""
    _, *parts = _ENTRY.split(text)
    waiting: dict[str, str] = {}
    for pid, level, content in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
        if level == "LOG" and content.startswith("execute "):
            waiting[pid] = content.partition(": ")[2]
        elif level == "DETAIL" and pid in waiting:
            yield waiting.pop(pid), content


def _is_background(statement: str) -> bool:
    return any(part in statement for part in _BACKGROUND)


def _name(statement: str) -> str:
    known = {
        "append_events(": "commit",
        "INSERT INTO sessions": "create",
        "array_agg(e.payload": "load",
        "FROM session_events": "events",
        "FROM sessions": "row",
    }
    return next((name for part, name in known.items() if part in statement), statement)
