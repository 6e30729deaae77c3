"""What things cost, as measured, and what is asked of a fleet."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Final

APPENDS_A_TURN: Final = 2
"""A plain turn commits twice: the message with what it starts, and the answer with the end."""


@dataclass(frozen=True, slots=True)
class Costs:
    """CPU in milliseconds, memory in kilobytes; where each was taken stands in the file it comes from."""

    server_ms_a_turn: float  # of one plain turn: 64 tokens, 5 ms apart, coalesced
    server_ms_a_quick_turn: float  # of one whose answer comes at once
    server_ms_a_tool: float  # of one tool call more: its commits, and the model step after it
    server_ms_a_stream_minute: float  # of an idle stream with its heartbeats and pings
    stream_kb: float  # of an idle stream and its session
    worker_mb: float  # of a worker with no stream
    postgres_ms_a_commit: float  # of one transaction, whatever is in it
    postgres_ms_an_append: float  # of one session's append in it
    postgres_kb_a_turn: float  # written to disk
    flush_ms: float  # that a transaction waits for the disk
    redis_ms_a_wakeup: float  # of one message to one subscriber
    redis_ms_a_turn: float  # where there is more than one worker to tell
    load_ms_a_turn: float  # of the clients and the mock model, where they share the machine
    load_ms_a_quick_turn: float  # of theirs, when the answer comes at once

    @classmethod
    def read(cls, path: Path) -> "Costs":
        """Read the costs of a file; what else stands in it tells where they come from."""
        told = json.loads(path.read_text())
        return cls(**{field.name: float(told[field.name]) for field in fields(cls)})

    def text(self) -> str:
        """Return the costs as they stand in a file."""
        return json.dumps(asdict(self), indent=2)


@dataclass(frozen=True, slots=True)
class Fleet:
    """What there is: workers of one event loop each, and databases that sessions are shared among."""

    workers: int
    shards: int = 1
    shard_cores: int = 8
    cores: int | None = None  # of one machine that everything shares; None: a core a worker, databases apart


@dataclass(frozen=True, slots=True)
class Load:
    """Turns that come by chance at a rate, or, with `streams`, one behind the other on so many streams."""

    rate: float = 0.0  # turns a second
    streams: int = 0
    answer_ms: float = 320.0  # how long the model takes, first token to last
    seconds: float = 20.0
    warm_seconds: float = 3.0
