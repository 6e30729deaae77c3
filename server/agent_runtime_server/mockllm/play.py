"""What the mock model does with one request: what it says, how fast, and what goes wrong."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class FaultKind(StrEnum):
    """What can be made to go wrong."""

    STATUS = "status"
    ERROR = "error"
    HANG = "hang"
    HANG_MID = "hang_mid"
    RESET_MID = "reset_mid"
    TRUNCATE = "truncate"
    MALFORMED = "malformed"
    DRIP = "drip"
    NOT_STREAMED = "not_streamed"


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call to ask for; arguments as an object, or as text that is sent as it stands."""

    name: str
    arguments: Mapping[str, object] | str = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """What is said."""

    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[Call, ...] = ()
    usage: Mapping[str, object] | None = None
    finish_reason: str = ""


@dataclass(frozen=True, slots=True)
class Pace:
    """How an answer is streamed: `tokens` at once, or writes of `chunk_bytes` when that is set."""

    tokens: int = 1
    delay_ms: float | None = None
    first_delay_ms: float = 0
    chunk_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong, and after how many tokens."""

    kind: FaultKind
    status: int = 500
    message: str = "a fault of the mock model's script"
    retry_after: str = ""
    after_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Play:
    """One answer with its pace and fault; `source` is the rule it comes from."""

    answer: Answer
    pace: Pace = Pace()
    fault: Fault | None = None
    source: str = "built-in"
