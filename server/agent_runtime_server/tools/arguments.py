"""Checks the arguments a model gives against a tool's JSON Schema, and the schemas clients declare.

Both are foreign text. Nothing here fetches anything, and the work of one check is bounded: the size of the text,
the nesting, the pattern engine (linear time only), and the number of schema and value pairs to look at.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Final, TypeAlias

import jsonschema_rs
import orjson

from agent_runtime import v1
from agent_runtime_server.tools.effort import Effort

Arguments: TypeAlias = dict[str, object]

MOST_BYTES: Final = 1 << 20
_MOST_SCHEMA_BYTES: Final = 65536
_LONGEST_REPORT: Final = 1024
_LONGEST_LINE: Final = 300
_MOST_PATTERN_BYTES: Final = 1 << 18  # of a compiled pattern: bounds its memory and the time for each character
_ALL_ERRORS_EFFORT: Final = 2000  # above it only the first error is looked for: listing all is eager and slow


class BadArguments(ValueError):
    """The text is not a JSON object that can be taken; `str()` says why, for the model."""


class BadSchema(ValueError):
    """The text is not a schema that can be taken; `str()` says why."""


def parse(arguments_json: str) -> Arguments:
    """Return the arguments of a call; raise BadArguments when they are no JSON object or break a limit."""
    value = _parse_json(arguments_json, MOST_BYTES)
    if not isinstance(value, dict):
        raise BadArguments(f"The arguments must be a JSON object, not {_kind(value)}.")
    return value


def check(spec: v1.ToolSpec, arguments_json: str) -> str | None:
    """Return what is wrong with the arguments, as a text for the model, or None."""
    try:
        arguments = parse(arguments_json)
        lines = list(_violations(spec.input_schema_json, arguments))
    except (BadArguments, BadSchema) as error:
        return f"Invalid arguments for {spec.name}. {error}"
    if not lines:
        return None
    return _report(f"Invalid arguments for {spec.name}:", lines)


def check_schema(input_schema_json: str) -> str | None:
    """Return what is wrong with a declared schema, or None; an empty text means any object."""
    try:
        _compile(input_schema_json)
    except BadSchema as error:
        return str(error)
    return None


def _parse_json(text: str, most_bytes: int) -> object:
    try:
        raw = text.encode()
    except UnicodeEncodeError:
        raise BadArguments("The text contains half of a surrogate pair.") from None
    if len(raw) > most_bytes:
        raise BadArguments(f"The text has {len(raw)} bytes; at most {most_bytes} are taken.")
    try:
        # The strict parser refuses NaN, infinite numbers, lone surrogates and deep nesting;
        # the second one keeps large integers exact and sees duplicate keys.
        orjson.loads(raw)
        value: object = json.loads(raw, object_pairs_hook=_unique)
    except RecursionError:
        raise BadArguments("The text is nested too deep.") from None
    except BadArguments:
        raise
    except ValueError as error:
        raise BadArguments(f"The text is not valid JSON: {error}.") from None
    return value


def _unique(pairs: list[tuple[str, object]]) -> Arguments:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise BadArguments(f"The key {_clip(repr(twice), 80)} stands twice in one object.")
    return found


def _violations(schema_json: str, arguments: Arguments) -> Iterator[str]:
    schema, validator = _compile(schema_json)
    effort = Effort(schema).of(arguments)
    if effort is None:
        raise BadArguments("The arguments are too large or too complex for the schema of this tool.")
    try:
        if not validator.is_valid(arguments):
            yield from map(_line, _errors(validator, arguments, effort))
    except jsonschema_rs.ValidationError as error:
        yield _line(error)
    except ValueError:
        raise BadArguments("The arguments are nested too deep.") from None


def _errors(
    validator: jsonschema_rs.Validator, arguments: Arguments, effort: int
) -> Iterable[jsonschema_rs.ValidationError]:
    if effort <= _ALL_ERRORS_EFFORT:
        return validator.iter_errors(arguments)
    try:
        validator.validate(arguments)
    except jsonschema_rs.ValidationError as error:
        return [error]
    return []


def _line(error: jsonschema_rs.ValidationError) -> str:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.instance_path)
    field = path.lstrip(".") or "the arguments"
    return f"{_clip(field, 120)}: {_clip(error.message, _LONGEST_LINE)} (rule: {error.kind.name})"


def _report(head: str, lines: list[str]) -> str:
    report, size = [head], len(head.encode())
    for number, line in enumerate(lines):
        size += len(line.encode()) + 3
        if number and size > _LONGEST_REPORT - 40:
            report.append(f"… and {len(lines) - number} more.")
            break
        report.append(f"- {line}")
    return "\n".join(report)


@lru_cache(maxsize=256)
def _compile(schema_json: str) -> tuple[Mapping[str, object], jsonschema_rs.Validator]:
    schema = _parse_schema(schema_json or "{}")
    try:
        validator = jsonschema_rs.validator_for(
            schema,
            offline=True,
            mask="the value",
            pattern_options=jsonschema_rs.RegexOptions(
                size_limit=_MOST_PATTERN_BYTES, dfa_size_limit=_MOST_PATTERN_BYTES
            ),
        )
    except jsonschema_rs.ValidationError as error:
        where = "".join(f"[{part!r}]" for part in error.instance_path)
        problem = _clip(error.message, _LONGEST_LINE)
        raise BadSchema(f"The schema does not compile: {_clip(where, 120)} {problem}".strip()) from None
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        raise BadSchema(f"The schema does not compile: {_clip(str(error), _LONGEST_LINE)}") from None
    return schema, validator


def _parse_schema(schema_json: str) -> Arguments:
    try:
        schema = _parse_json(schema_json, _MOST_SCHEMA_BYTES)
    except BadArguments as error:
        raise BadSchema(f"The schema cannot be read. {error}") from None
    if not isinstance(schema, dict):
        raise BadSchema(f"The schema must be a JSON object, not {_kind(schema)}.")
    if schema.get("type", "object") != "object":
        raise BadSchema('The schema must describe an object: its "type" must be "object".')
    _refuse_foreign_references(schema)
    return schema


def _refuse_foreign_references(schema: Arguments) -> None:
    pending: list[object] = [schema]
    while pending:
        node = pending.pop()
        if isinstance(node, list):
            pending.extend(node)
        elif isinstance(node, dict):
            _refuse_foreign(node, is_root=node is schema)
            pending.extend(node.values())


def _refuse_foreign(node: Arguments, *, is_root: bool) -> None:
    reference = node.get("$ref")
    if isinstance(reference, str) and reference != "#" and not reference.startswith("#/"):
        raise BadSchema(f"Only references inside of the schema are taken (#/…), not {_clip(reference, 80)!r}.")
    for key in ("$dynamicRef", "$recursiveRef", "$id", "id"):
        if isinstance(node.get(key), str) and not (is_root and key in {"$id", "id"}):
            raise BadSchema(f"{key} is not taken in the schema of a tool.")


def _kind(value: object) -> str:
    if value is None:
        return "null"
    return {list: "an array", str: "a string", bool: "a boolean"}.get(type(value), "a number")


def _clip(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"
