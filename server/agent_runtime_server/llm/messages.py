"""The messages of a request, written once: a long conversation is sent again with each step."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TypeAlias, overload

import orjson

Message: TypeAlias = Mapping[str, object]


class Written(Sequence[Message]):
    """Messages as the JSON in which they are sent; they are read back for whoever looks at them."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self.json = b"[%b]" % b",".join(pieces)

    @cached_property
    def _messages(self) -> list[Message]:
        read: list[Message] = orjson.loads(self.json)
        return read

    def __len__(self) -> int:
        return len(self._messages)

    @overload
    def __getitem__(self, place: int) -> Message: ...

    @overload
    def __getitem__(self, place: slice) -> list[Message]: ...

    def __getitem__(self, place: int | slice) -> Message | list[Message]:
        return self._messages[place]


def write(messages: Iterable[Message]) -> bytes:
    """Return a piece that holds these messages; of none it is empty."""
    return encode([*messages])[1:-1]


def size(messages: Sequence[Message]) -> int:
    """Return about how many characters the messages have, rather too many than too few."""
    return len(messages.json if isinstance(messages, Written) else encode(messages))


def encode(value: object) -> bytes:
    """Return the JSON of what a request is made of."""
    return orjson.dumps(value, default=_plain)


def _plain(value: object) -> object:
    if isinstance(value, Written):
        return orjson.Fragment(value.json)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence):
        return list(value)
    raise TypeError(f"{type(value).__name__} has no place in a model request")
