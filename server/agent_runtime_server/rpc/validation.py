"""Checks requests and frames against the table of rules.

Each message type is compiled once, when it is first seen, into the checks of its fields. Walking then goes over the
fields that are set (`ListFields`), into submessages only where rules can be broken, and adds those fields which
break a rule by being unset.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from agent_runtime import v1
from agent_runtime_server.core.errors import ValidationFailed, invalid, violation
from agent_runtime_server.rpc.checks import Broken, Check, checks_of
from agent_runtime_server.rpc.cross_rules import CROSS_RULES
from agent_runtime_server.rpc.rules import FRAME_ID, RULES, Rule

MOST_VIOLATIONS: Final = 64
PACKAGE: Final = "agent_runtime.v1."
_LONGEST_KEY: Final = 32  # characters of a map key shown in a path

Walk = Callable[[Any, str], Iterator[v1.FieldViolation]]
"""Yields what is wrong with a field's value at a path."""


def validate(message: Message, root: str = "") -> None:
    """Raise ValidationFailed naming every field that breaks a rule, at most 64; `root` stands before each path."""
    found = []
    for broken in _walk_message(message, root):
        found.append(broken)
        if len(found) == MOST_VIOLATIONS:
            break
    if found:
        raise ValidationFailed(found)


def require_frame_id(frame_id: str) -> None:
    """Raise ValidationFailed unless a durable frame carries a well-formed frame_id."""
    if not frame_id:
        raise invalid("frame_id", "string.min_len", "must be set on a durable frame: send a new UUID or ULID")
    for check in _FRAME_ID_CHECKS:
        if broken := check(frame_id):
            raise invalid("frame_id", *broken)


@dataclass(frozen=True, slots=True)
class _Plan:
    """The compiled rules of one message type."""

    walks: Mapping[int, Walk]
    unset: tuple[tuple[int, str, Broken], ...]
    cross: Callable[[Any], Any] | None

    def is_empty(self) -> bool:
        return not self.walks and not self.unset and self.cross is None


def _walk_message(message: Message, path: str) -> Iterator[v1.FieldViolation]:
    plan = _plan(message.DESCRIPTOR)
    fields = message.ListFields()
    for field, value in fields:
        walk = plan.walks.get(field.number)
        if walk is not None:
            yield from walk(value, _join(path, field.name))
    if plan.unset:
        present = {field.number for field, _ in fields}
        for number, name, broken in plan.unset:
            if number not in present:
                yield violation(_join(path, name), *broken)
    if plan.cross is not None:
        for finding in plan.cross(message):
            yield violation(_join(path, finding.field), finding.rule, finding.description)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


@cache
def _plan(descriptor: Descriptor) -> _Plan:
    name = descriptor.full_name.removeprefix(PACKAGE)
    rules = RULES.get(name, {})
    walks: dict[int, Walk] = {}
    unset: list[tuple[int, str, Broken]] = []
    for field in descriptor.fields:
        rule = rules.get(field.name, Rule())
        walk = _walk_of(field, rule)
        if walk is not None:
            walks[field.number] = walk
        broken = _broken_when_unset(field, rule)
        if broken is not None:
            unset.append((field.number, field.name, broken))
    return _Plan(walks, tuple(unset), CROSS_RULES.get(name))


def _walk_of(field: FieldDescriptor, rule: Rule) -> Walk | None:
    if _is_map(field):
        return _map_walk(rule)
    one = _single_walk(field, rule)
    return _list_walk(one, rule) if field.is_repeated else one


def _single_walk(field: FieldDescriptor, rule: Rule) -> Walk | None:
    checks = checks_of(field, rule)
    if checks:
        return _value_walk(checks)
    if field.message_type is None or _plan(field.message_type).is_empty():
        return None
    return _walk_message


def _value_walk(checks: tuple[Check, ...]) -> Walk:
    def walk(value: Any, path: str) -> Iterator[v1.FieldViolation]:
        for check in checks:
            broken = check(value)
            if broken is not None:
                yield violation(path, *broken)
                return

    return walk


def _list_walk(one: Walk | None, rule: Rule) -> Walk | None:
    if one is None and rule.max_items is None:
        return None

    def walk(values: Any, path: str) -> Iterator[v1.FieldViolation]:
        if rule.max_items is not None and len(values) > rule.max_items:
            # What is too long anyway is not walked.
            description = f"has {len(values)} items: send at most {rule.max_items}"
            yield violation(path, "repeated.max_items", description)
        elif one is not None:
            for index, value in enumerate(values):
                yield from one(value, f"{path}[{index}]")

    return walk


def _map_walk(rule: Rule) -> Walk:
    def walk(pairs: Mapping[str, str], path: str) -> Iterator[v1.FieldViolation]:
        if rule.max_pairs is not None and len(pairs) > rule.max_pairs:
            yield violation(path, "map.max_pairs", f"has {len(pairs)} pairs: send at most {rule.max_pairs}")
            return
        for key in sorted(pairs):
            for what, text in (("key", key), ("value", pairs[key])):
                for check in pair_checks:
                    if broken := check(text):
                        yield violation(f'{path}["{_shown(key)}"]', f"map.{what}.{broken.rule}", broken.description)

    limit = Rule(max_bytes=rule.pair_max_bytes)
    pair_checks = (*checks_of(_TEXT, Rule()), *(checks_of(_TEXT, limit) if limit.max_bytes else ()))
    return walk


def _shown(key: str) -> str:
    return key.encode("unicode_escape").decode()[:_LONGEST_KEY].replace('"', "'")


def _broken_when_unset(field: FieldDescriptor, rule: Rule) -> Broken | None:
    """Return what is wrong with leaving the field out; members of a oneof may always be left out."""
    if rule.required:
        return Broken("required", "must be set")
    if field.is_repeated:
        return Broken("repeated.min_items", f"needs {rule.min_items} or more items") if rule.min_items else None
    if field.message_type is not None or field.has_presence:
        return None
    return next(filter(None, (check(field.default_value) for check in checks_of(field, rule))), None)


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


_TEXT: Final = v1.ChatRequest.DESCRIPTOR.fields_by_name["frame_id"]
_FRAME_ID_CHECKS: Final = checks_of(_TEXT, Rule(max_len=64, pattern=FRAME_ID))
