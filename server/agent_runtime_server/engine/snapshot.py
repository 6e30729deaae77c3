"""A state as bytes and back: the shape of the dataclasses is the schema, so a new field needs nothing here.

The bytes are a JSON text, and behind it the messages of the contract, each once: the text names them by their number.
What several places of a state share, they share again afterwards: what the fold does to the one the other must see.
Fields that do not count when states are compared are left out.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import IntEnum
from functools import cache
from types import UnionType
from typing import Any, TypeAlias, Union, get_args, get_origin, get_type_hints

from google.protobuf.message import DecodeError, Message

from agent_runtime_server.core.transcript import Called, Packed
from agent_runtime_server.engine.state import State

_Json: TypeAlias = Any
_LENGTH_BYTES = 4
_CLASS = "is"  # the key that tells dataclasses of a union apart
_PLAIN = (str, int, float, bool)
_CONTAINERS: Mapping[object, Callable[[list[Any]], object]] = {list: list, set: set}


class UnreadableError(Exception):
    """The bytes are no state of this version."""


def pack(state: State) -> bytes:
    """Return a state as bytes."""
    packer = _Packer()
    told = {"state": packer.pack(state), "called": packer.called, "sizes": [len(blob) for blob in packer.blobs]}
    text = json.dumps(told, separators=(",", ":")).encode()
    return b"".join((len(text).to_bytes(_LENGTH_BYTES, "big"), text, *packer.blobs))


def unpack(packed: bytes) -> State:
    """Return the state that was packed; fields that it had not yet get their default."""
    try:
        end = _LENGTH_BYTES + int.from_bytes(packed[:_LENGTH_BYTES], "big")
        told = json.loads(packed[_LENGTH_BYTES:end])
        blobs = []
        for size in told["sizes"]:
            blobs.append(packed[end : end + size])
            end += size
        state = _Unpacker(blobs, told["called"]).unpack(State, told["state"])
    except (ValueError, LookupError, TypeError, AttributeError, DecodeError) as error:
        raise UnreadableError("a snapshot cannot be read") from error
    assert isinstance(state, State), "that is what was asked for"
    return state


class _Packer:
    """Turns values into JSON, and messages into blobs beside it."""

    def __init__(self) -> None:
        self.blobs: list[bytes] = []
        self.called: list[_Json] = []
        self._numbers: dict[int, int] = {}  # of what is shared, by identity
        self._kept: list[object] = []  # while an identity is noted its object must live

    def pack(self, value: object) -> _Json:
        if value is None or isinstance(value, str | int | float):
            return value
        if isinstance(value, Message):
            return self._number(value, self.blobs, value.SerializeToString)
        if isinstance(value, Called):
            return self._number(value, self.called, lambda: self._fields(value))
        if is_dataclass(value):
            return self._fields(value)
        if isinstance(value, dict):
            return {key: self.pack(one) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return [self.pack(one) for one in value]
        if isinstance(value, set):
            return sorted(value)
        raise TypeError(f"a {type(value).__name__} cannot stand in a snapshot")

    def _number(self, value: object, table: list[Any], packed: Callable[[], object]) -> int:
        if id(value) not in self._numbers:
            self._kept.append(value)
            table.append(packed())
            self._numbers[id(value)] = len(table) - 1
        return self._numbers[id(value)]

    def _fields(self, value: Any) -> _Json:
        told = {name: self.pack(getattr(value, name)) for name in _compared(value.__class__)}
        return {_CLASS: type(value).__name__} | told


class _Unpacker:
    """Turns JSON back into what a type hint asks for."""

    def __init__(self, blobs: list[bytes], called: list[_Json]) -> None:
        self._blobs = blobs
        self._called_json = called
        self._messages: dict[int, Message] = {}
        self._called: dict[int, object] = {}

    def unpack(self, hint: Any, value: _Json) -> object:
        origin, arguments = get_origin(hint), get_args(hint)
        if origin in (Union, UnionType):
            return self._one_of(arguments, value)
        if origin is Packed:
            return self.unpack(arguments[0], value)
        if origin in _CONTAINERS:
            return _CONTAINERS[origin]([self.unpack(arguments[0], one) for one in value])
        if origin is tuple:
            hints = [arguments[0]] * len(value) if arguments[1:] == (...,) else arguments
            return tuple(self.unpack(one_hint, one) for one_hint, one in zip(hints, value, strict=True))
        if origin is dict:
            return {key: self.unpack(arguments[1], one) for key, one in value.items()}
        return self._plain(hint, value)

    def _plain(self, hint: Any, value: _Json) -> object:
        if not isinstance(hint, type):
            return value
        if issubclass(hint, Message):
            if value not in self._messages:
                self._messages[value] = hint.FromString(self._blobs[value])
            return self._messages[value]
        if hint is Called:
            if value not in self._called:
                self._called[value] = self._dataclass(Called, self._called_json[value])
            return self._called[value]
        if is_dataclass(hint):
            return self._dataclass(hint, value)
        return hint(value) if issubclass(hint, IntEnum) else value

    def _one_of(self, hints: tuple[Any, ...], value: _Json) -> object:
        named = [hint for hint in hints if hint is not type(None)]
        if value is None or len(named) == 1:
            return None if value is None else self.unpack(named[0], value)
        if isinstance(value, dict):
            return self.unpack({hint.__name__: hint for hint in named}[value[_CLASS]], value)
        return value

    def _dataclass(self, kind: Callable[..., object], value: _Json) -> object:
        hints, plain = _hints(kind), _plain_names(kind)
        return kind(
            **{
                name: one if name in plain else self.unpack(hints[name], one)
                for name, one in value.items()
                if name in hints
            }
        )


# The shape of a class is looked up once, for a state has thousands of fields.


@cache
def _compared(kind: Any) -> Sequence[str]:
    return [field.name for field in fields(kind) if field.compare]


@cache
def _hints(kind: Callable[..., object]) -> Mapping[str, Any]:
    return get_type_hints(kind)


@cache
def _plain_names(kind: Callable[..., object]) -> frozenset[str]:
    """Return the names of fields whose JSON is their value."""
    return frozenset(name for name, hint in _hints(kind).items() if hint in _PLAIN)
