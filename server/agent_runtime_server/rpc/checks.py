"""Checks of one value: each returns what is wrong with it, or None."""

import math
import re
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import orjson
from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor

from agent_runtime_server.rpc.rules import IDENTIFIER, Rule

_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_LONGEST_UTF8: Final = 4  # bytes of one character
_FIRST_SECOND, _LAST_SECOND = -62_135_596_800, 253_402_300_799  # years 1 to 9999
_LONGEST_DURATION: Final = 315_576_000_000  # seconds, 10,000 years
_NANOS: Final = 1_000_000_000


class Broken(NamedTuple):
    """The name of a broken rule, and what to do about it."""

    rule: str
    description: str


Check = Callable[[Any], Broken | None]


def checks_of(field: FieldDescriptor, rule: Rule) -> tuple[Check, ...]:
    """Return the checks of one value of a scalar, enum or well-known field."""
    if field.enum_type is not None:
        return tuple(_of_enum(field.enum_type, rule))
    if field.message_type is not None:
        return tuple(_of_well_known(field.message_type.full_name, rule))
    if field.type == FieldDescriptor.TYPE_BYTES:
        return tuple(_of_bytes(rule))
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING:
            return tuple(_of_text(rule))
        case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
            return (_finite,)
        case FieldDescriptor.CPPTYPE_INT64:
            return tuple(_of_number("int64", rule))
        case _:
            return tuple(_of_number("int32", rule))


def _of_text(rule: Rule) -> Iterator[Check]:
    if rule.min_len is not None:
        yield _min_len(rule.min_len)
    if rule.max_len is not None:
        yield _max_len(rule.max_len)
    if rule.max_bytes is None:
        # Content may hold anything; short texts go to columns of Postgres, which refuse this one character.
        yield _no_nul
    else:
        yield _max_bytes(rule.max_bytes)
    if rule.identifier:
        yield _identifier
    if rule.pattern is not None:
        yield _pattern(rule.pattern)
    if rule.uuid:
        yield _uuid
    if rule.json_object:
        yield _json_object


def _min_len(least: int) -> Check:
    broken = Broken("string.min_len", f"must be set: give at least {least} character{'s' * (least > 1)}")
    return lambda value: broken if len(value) < least else None


def _max_len(most: int) -> Check:
    def check(value: str) -> Broken | None:
        if len(value) <= most:
            return None
        return Broken("string.max_len", f"is {len(value)} characters long: send at most {most}")

    return check


def _max_bytes(most: int) -> Check:
    def check(value: str) -> Broken | None:
        if len(value) * _LONGEST_UTF8 <= most:
            return None
        size = len(value) if value.isascii() else len(value.encode())
        if size <= most:
            return None
        return Broken("string.max_bytes", f"is {size} bytes long in UTF-8: send at most {most}")

    return check


def _no_nul(value: str) -> Broken | None:
    return Broken("string.no_nul", "holds the character U+0000: leave it out") if "\0" in value else None


def _pattern(pattern: str) -> Check:
    compiled = re.compile(pattern)
    broken = Broken("string.pattern", f"must match {pattern}")
    return lambda value: None if compiled.fullmatch(value) else broken


_ID_PATTERN: Final = re.compile(IDENTIFIER)
_NO_ID: Final = Broken("string.pattern", "may hold only letters, digits and . _ : -")


def _identifier(value: str) -> Broken | None:
    return None if not value or _ID_PATTERN.fullmatch(value) else _NO_ID


def _uuid(value: str) -> Broken | None:
    return None if not value or _UUID.fullmatch(value) else Broken("string.uuid", "must be a UUID, or empty")


def _json_object(value: str) -> Broken | None:
    if not value:
        return None
    try:
        parsed = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        return Broken("string.json_object", f"is no JSON that can be read: {error.msg} (at character {error.pos})")
    return None if isinstance(parsed, dict) else Broken("string.json_object", "must be a JSON object: {...}")


def _of_bytes(rule: Rule) -> Iterator[Check]:
    if rule.max_len is not None:
        yield _max_size(rule.max_len)


def _max_size(most: int) -> Check:
    def check(value: bytes) -> Broken | None:
        if len(value) <= most:
            return None
        return Broken("bytes.max_len", f"is {len(value)} bytes long: send at most {most}")

    return check


def _of_enum(enum: EnumDescriptor, rule: Rule) -> Iterator[Check]:
    if rule.specified or rule.defined:
        yield _one_of({value.number: value.name for value in enum.values if value.number or not rule.specified})


def _one_of(names: dict[int, str]) -> Check:
    known = ", ".join(f"{name} ({number})" for number, name in names.items() if number)

    def check(value: int) -> Broken | None:
        if value in names:
            return None
        if value == 0:
            return Broken("enum.specified", f"must be set to one of {known}")
        return Broken("enum.defined_only", f"{value} is not defined: send one of {known}")

    return check


def _of_number(kind: str, rule: Rule) -> Iterator[Check]:
    if rule.gt is not None:
        yield _greater(f"{kind}.gt", rule.gt + 1)
    if rule.gte is not None:
        yield _greater(f"{kind}.gte", rule.gte)
    if rule.lte is not None:
        yield _at_most(f"{kind}.lte", rule.lte)


def _greater(name: str, least: int) -> Check:
    return lambda value: None if value >= least else Broken(name, f"is {value}: send {least} or more")


def _at_most(name: str, most: int) -> Check:
    return lambda value: None if value <= most else Broken(name, f"is {value}: send {most} or less")


def _finite(value: float) -> Broken | None:
    return None if math.isfinite(value) else Broken("double.finite", "must be a finite number")


def _of_well_known(name: str, rule: Rule) -> Iterator[Check]:
    if name == "google.protobuf.Timestamp":
        yield _timestamp
    if name == "google.protobuf.Duration":
        yield _duration
        if rule.not_negative:
            yield _not_negative


def _timestamp(value: Any) -> Broken | None:
    if _FIRST_SECOND <= value.seconds <= _LAST_SECOND and 0 <= value.nanos < _NANOS:
        return None
    return Broken("timestamp.valid", "must lie in the years 1 to 9999, with nanos from 0 to 999999999")


def _duration(value: Any) -> Broken | None:
    same_sign = value.seconds * value.nanos >= 0
    if abs(value.seconds) <= _LONGEST_DURATION and abs(value.nanos) < _NANOS and same_sign:
        return None
    return Broken("duration.valid", "must be within 10000 years, with nanos below one second and of the same sign")


def _not_negative(value: Any) -> Broken | None:
    return Broken("duration.gte", "must not be negative") if value.seconds < 0 or value.nanos < 0 else None
