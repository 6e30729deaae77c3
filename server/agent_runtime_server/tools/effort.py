"""Bounds the work of checking a value against a schema before the check is begun.

References can make a small schema visit one value exponentially often, and the validator, which recurses on the native
stack, cannot be interrupted. So the visits are counted first, with a budget and a greatest depth; the count is an upper
bound, it decides no validity.
"""

from collections.abc import Iterator, Mapping
from typing import Final, TypeAlias

_Visit: TypeAlias = tuple[object, object]

_BUDGET: Final = 50_000
_DEEPEST: Final = 2_000
_SAME_VALUE: Final = ("not", "if", "then", "else")
_SAME_VALUE_LISTS: Final = ("allOf", "anyOf", "oneOf")
_SAME_VALUE_MAPS: Final = ("dependentSchemas", "dependencies")
_EACH_MEMBER: Final = ("additionalProperties", "unevaluatedProperties")
_EACH_ITEM: Final = ("items", "additionalItems", "unevaluatedItems", "contains")


class Effort:
    """Counts what checking a value against one schema would take."""

    def __init__(self, schema: Mapping[str, object]) -> None:
        self._schema = schema

    def of(self, value: object) -> int | None:
        """Return the number of visits, or None when they are too many or too deep."""
        visits = 0
        pending: list[tuple[object, object, int]] = [(self._schema, value, 0)]
        while pending:
            schema, part, depth = pending.pop()
            if not isinstance(schema, dict):
                continue
            if depth > _DEEPEST:
                return None
            visits += 1 + _own_effort(schema, part)
            # What is queued will be visited: giving up early bounds the memory as well.
            for below, inner in self._next(schema, part):
                pending.append((below, inner, depth + 1))
                if visits + len(pending) > _BUDGET:
                    return None
        return visits if visits <= _BUDGET else None

    def _next(self, schema: Mapping[str, object], part: object) -> Iterator[_Visit]:
        reference = schema.get("$ref")
        if isinstance(reference, str):
            yield self._target(reference), part
        yield from ((schema[key], part) for key in _SAME_VALUE if key in schema)
        for key in _SAME_VALUE_LISTS:
            yield from ((branch, part) for branch in _items(schema.get(key)))
        for key in _SAME_VALUE_MAPS:
            yield from ((branch, part) for branch in _members(schema.get(key)).values())
        if isinstance(part, dict):
            yield from _below_object(schema, part)
        elif isinstance(part, list):
            yield from _below_array(schema, part)

    def _target(self, reference: str) -> object:
        node: object = self._schema
        for step in reference.removeprefix("#").split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            if isinstance(node, dict):
                node = node.get(name)
            elif isinstance(node, list) and name.isdecimal() and int(name) < len(node):
                node = node[int(name)]
            else:
                return None
        return node


def _below_object(schema: Mapping[str, object], part: Mapping[str, object]) -> Iterator[_Visit]:
    properties = _members(schema.get("properties"))
    patterns = _members(schema.get("patternProperties"))
    others = [schema[key] for key in _EACH_MEMBER if isinstance(schema.get(key), dict)]
    names = schema.get("propertyNames")
    for key, member in part.items():
        if key in properties:
            yield properties[key], member
        yield from ((pattern, member) for pattern in patterns.values())
        yield from ((other, member) for other in others)
        if isinstance(names, dict):
            yield names, key


def _below_array(schema: Mapping[str, object], part: list[object]) -> Iterator[_Visit]:
    for key in ("prefixItems", "items"):
        yield from zip(_items(schema.get(key)), part, strict=False)
    for key in _EACH_ITEM:
        each = schema.get(key)
        if isinstance(each, dict):
            yield from ((each, item) for item in part)


def _own_effort(schema: Mapping[str, object], part: object) -> int:
    effort = len(_items(schema.get("enum"))) // 8 + len(_items(schema.get("required"))) // 8
    if isinstance(part, str) and "pattern" in schema:
        effort += len(part) // 1024
    return effort


def _items(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _members(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}
