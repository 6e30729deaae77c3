"""The conversation as a model has to see it: what was said, answered, called and returned, in order.

It is bounded: the oldest turns are forgotten as wholes, so that no call ever stands without its result.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import ClassVar, Final, Generic, TypeVar

from google.protobuf.message import Message

from agent_runtime import v1

MOST_BYTES: Final = 256 << 10
MOST_ENTRIES: Final = 1000
_KEPT: Final = 0.75  # of the most, so that a turn is not forgotten each turn: endpoints cache a prefix that stays


M = TypeVar("M", bound=Message)


class Packed(Generic[M]):
    """A dataclass's field for a message that may be set to its bytes, too: they take a fraction of its room."""

    def __init__(self, kind: type[M]) -> None:
        self._kind = kind

    def __set_name__(self, _owner: type, name: str) -> None:
        self._place = f"_{name}"

    def __get__(self, holder: object, _owner: type | None = None) -> M:
        if holder is None:
            raise AttributeError("it has no default")  # which is what a dataclass asks
        held: M | bytes = getattr(holder, self._place)
        return self._kind.FromString(held) if isinstance(held, bytes) else held

    def __set__(self, holder: object, message: M | bytes) -> None:
        setattr(holder, self._place, message)


@dataclass
class Said:
    """The user said something; `rendered` is what was made of it for models, which stays the same."""

    message: Packed[v1.UserMessage] = Packed(v1.UserMessage)
    rendered: bytes = field(default=b"", compare=False, repr=False)


@dataclass(slots=True)
class Called:
    """One call of an answer; `call` has the final arguments, `result` is None while it is open."""

    call: v1.ToolCall
    result: v1.ToolResult | None = None


@dataclass
class Answered:
    """The model answered; its calls stand in the order in which it asked for them.

    `rendered` is what was made of it for models; once all of its calls have results it stays the same.
    `shortened` is the same without what the calls returned, but for what is short anyway.
    """

    message: Packed[v1.AssistantMessage] = Packed(v1.AssistantMessage)
    calls: list[Called] = field(default_factory=list)
    rendered: bytes = field(default=b"", compare=False, repr=False)
    shortened: bytes = field(default=b"", compare=False, repr=False)


@dataclass(slots=True)
class HandedOff:
    """Another agent went on, of which models are told in front of everything."""

    handoff: v1.AgentHandoff
    rendered: ClassVar[bytes] = b""


Entry = Said | Answered | HandedOff


@dataclass(frozen=True, slots=True)
class Told:
    """How much of the transcript one finished turn takes."""

    entries: int
    bytes: int


def kept_bytes(told: Iterable[Told]) -> int:
    """Return the size of the finished turns that are remembered."""
    return sum(turn.bytes for turn in told)


def conclude(transcript: list[Entry], told: list[Told]) -> None:
    """Count what stands behind the finished turns as one more, and forget the oldest beyond the bounds."""
    entries = transcript[sum(turn.entries for turn in told) :]
    told.append(Told(len(entries), _size(entries)))
    for entry in entries:
        _pack(entry)
    if _exceeds(told, 1):
        while len(told) > 1 and _exceeds(told, _KEPT):
            del transcript[: told.pop(0).entries]


def _pack(entry: Entry) -> None:
    """Take what an entry holds out of its events, which would stay with it; few ask for it once its turn is over."""
    if isinstance(entry, HandedOff):
        entry.handoff = _copy(entry.handoff)
        return
    entry.message = entry.message.SerializeToString()
    for called in entry.calls if isinstance(entry, Answered) else ():
        called.call = _copy(called.call)
        called.result = None if called.result is None else _copy(called.result)


def _copy(message: M) -> M:
    own = type(message)()
    own.CopyFrom(message)
    return own


def _exceeds(told: Iterable[Told], share: float) -> bool:
    turns = tuple(told)
    entries, size = sum(turn.entries for turn in turns), sum(turn.bytes for turn in turns)
    return entries > share * MOST_ENTRIES or size > share * MOST_BYTES


def _size(entries: Iterable[Entry]) -> int:
    size = 0
    for entry in entries:
        size += (entry.handoff if isinstance(entry, HandedOff) else entry.message).ByteSize()
        for called in entry.calls if isinstance(entry, Answered) else ():
            size += called.call.ByteSize() + (called.result.ByteSize() if called.result is not None else 0)
    return size
