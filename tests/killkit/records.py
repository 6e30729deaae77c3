"""What a client saw and sent, written down before anybody acts on it, so that it survives the client's death."""

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

NO_STREAM: Final = 0
"""The stream of records that belong to a client's program, not to one of its streams."""


class What(StrEnum):
    """What a record is of."""

    BORN = "born"  # the program began; `seq` is the last one it had applied in a former life
    HELLO = "hello"  # a stream began behind `seq`
    WELCOME = "welcome"  # `key` is the replica that answers
    SENT = "sent"  # a durable frame; `detail` is its kind, `key` the call or approval it is about
    ACK = "ack"  # `detail` is the outcome, `key` the reason of a refusal
    EVENT = "event"  # came over a stream; `detail` is its kind, `key` the turn
    CAUGHT_UP = "caught_up"
    APPLIED = "applied"  # was given to the program
    DOWN = "down"  # the stream was lost; `detail` says why, and when the next one is tried
    GAVE_UP = "gave_up"  # the library ended the chat by itself; `detail` says why
    LEFT = "left"  # the program left the session behind, all of its turns over


@dataclass(frozen=True, slots=True)
class Record:
    """One line of a client's records."""

    at: float
    what: What
    stream: int = NO_STREAM
    seq: int = 0
    frame_id: str = ""
    key: str = ""
    detail: str = ""

    def line(self) -> bytes:
        """Return the record as a line of text."""
        return json.dumps(astuple(self), separators=(",", ":")).encode() + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> "Record | None":
        """Return the record in a line; None for one that was cut off by its writer's death."""
        try:
            at, what, *rest = json.loads(line)
        except ValueError:
            return None
        return cls(at, What(what), *rest)


class Recorder:
    """Appends records to a file, each by one write, and tells a listener."""

    def __init__(self, path: Path, listener: Callable[[Record], None] = lambda _: None) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._listener = listener
        self._streams = NO_STREAM

    def new_stream(self) -> int:
        """Return a number for a stream of this life of the program."""
        self._streams += 1
        return self._streams

    def note(self, what: What, **fields: object) -> None:
        """Write one record."""
        record = Record(time.monotonic(), what, **fields)  # type: ignore[arg-type] # its own fields
        os.write(self._file, record.line())
        self._listener(record)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def read(path: Path) -> Iterator[Record]:
    """Yield the records of a file, oldest first."""
    for line in path.read_bytes().splitlines() if path.exists() else ():
        record = Record.parse(line)
        if record is not None:
            yield record
