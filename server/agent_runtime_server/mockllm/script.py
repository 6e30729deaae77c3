"""Scripts of the mock model: a JSON list of rules; the first that matches and is not used up answers.

    [{"match": {"last_user": "create (\\\\w+)", "has_tools": true, "times": 1},
      "answer": {"text": "I create {1}.",
                 "tool_calls": [{"name": "write_file", "arguments": {"path": "{1}", "content": ""}}]},
      "pace": {"delay_ms": 20},
      "fault": {"kind": "hang_mid", "after_tokens": 3}}]

match   last_user, system, tool_result, model: regular expressions, searched for, case ignored; last_role: the
        role of the last message; has_tools: true or false; tools: names that must all be offered; times: how
        often the rule can be used. Every key may be left out.
answer  text, reasoning, tool_calls [{name, arguments}], usage, finish_reason. {1} or {name} is a group of
        last_user, else of tool_result, else of system. Arguments that are text are sent as they stand.
pace    tokens: written at once (1); delay_ms: between writes (--delay-ms); first_delay_ms (0); chunk_bytes: cut the
        stream into writes of that many bytes, also in the middle of a character.
fault   kind: status (HTTP `status`, with `retry_after` and `message`), error (an error object inside the
        stream), hang (no answer at all), hang_mid, reset_mid (TCP reset), truncate (the stream just ends),
        malformed (a chunk that is no JSON), drip (from there on byte by byte), not_streamed (one JSON document
        whatever was asked). All but the first and the last happen after `after_tokens` tokens.

A request that no rule matches gets the built-in behaviour.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agent_runtime_server.mockllm.play import Answer, Call, Fault, FaultKind, Pace, Play
from agent_runtime_server.mockllm.seen import Seen

_REGEXES = ("last_user", "tool_result", "system", "model")
_GROUP = re.compile(r"\{(\w+)\}")


class ScriptError(Exception):
    """A script breaks its rules; the text names the place."""


@dataclass(slots=True)
class Rule:
    """One rule; `left` counts down to 0 when it can be used a limited number of times."""

    name: str
    patterns: Mapping[str, re.Pattern[str]]
    answer: Answer
    pace: Pace
    fault: Fault | None = None
    last_role: str | None = None
    has_tools: bool | None = None
    tools: frozenset[str] = frozenset()
    left: int | None = None

    def play(self, seen: Seen) -> Play | None:
        """Return what to do, filled in from the request; None when the rule does not match it."""
        if self.left == 0 or not self._fits(seen):
            return None
        groups: dict[str, str] = {}
        for key, pattern in self.patterns.items():
            found = pattern.search(str(getattr(seen, key)))
            if not found:
                return None
            for name, text in _groups_of(found).items():
                groups.setdefault(name, text)
        if self.left is not None:
            self.left -= 1
        return Play(_filled(self.answer, groups), self.pace, self.fault, self.name)

    def _fits(self, seen: Seen) -> bool:
        return (
            self.last_role in (None, seen.last_role)
            and self.has_tools in (None, bool(seen.tools))
            and self.tools <= seen.tools
        )


@dataclass(slots=True)
class Script:
    """Rules in order."""

    rules: list[Rule] = field(default_factory=list)

    def play(self, seen: Seen) -> Play | None:
        """Return what the first matching rule does."""
        return next((play for rule in self.rules if (play := rule.play(seen))), None)


def load_script(path: Path) -> Script:
    """Read a script file; raise ScriptError in words for the person who wrote it."""
    try:
        document = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ScriptError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise ScriptError(f"{path}: not JSON: {error}") from error
    return parse_script(document)


def parse_script(document: object) -> Script:
    """Return the script that a decoded JSON document holds."""
    if not isinstance(document, list):
        raise ScriptError("a script is a list of rules")
    return Script([_rule(f"rules[{place}]", value) for place, value in enumerate(document)])


def _rule(where: str, value: object) -> Rule:
    fields = _object(where, value, {"match", "answer", "pace", "fault"})
    match = _object(f"{where}.match", fields.get("match", {}), {*_REGEXES, "last_role", "has_tools", "tools", "times"})
    at = f"{where}.match"
    times = match.get("times")
    return Rule(
        name=where,
        patterns={key: _pattern(f"{at}.{key}", match[key]) for key in _REGEXES if key in match},
        answer=_answer(f"{where}.answer", fields.get("answer", {})),
        pace=_pace(f"{where}.pace", fields.get("pace", {})),
        fault=_fault(f"{where}.fault", fields["fault"]) if fields.get("fault") else None,
        last_role=_text(f"{at}.last_role", match["last_role"]) if "last_role" in match else None,
        has_tools=_bool(f"{at}.has_tools", match["has_tools"]) if "has_tools" in match else None,
        tools=frozenset(_text(f"{at}.tools", name) for name in _list(f"{at}.tools", match.get("tools", []))),
        left=None if times is None else _whole(f"{at}.times", times),
    )


def _answer(where: str, value: object) -> Answer:
    fields = _object(where, value, {"text", "reasoning", "tool_calls", "usage", "finish_reason"})
    calls = _list(f"{where}.tool_calls", fields.get("tool_calls", []))
    usage = fields.get("usage")
    return Answer(
        text=_text(f"{where}.text", fields.get("text", "")),
        reasoning=_text(f"{where}.reasoning", fields.get("reasoning", "")),
        tool_calls=tuple(_call(f"{where}.tool_calls[{place}]", call) for place, call in enumerate(calls)),
        usage=None if usage is None else _object(f"{where}.usage", usage, None),
        finish_reason=_text(f"{where}.finish_reason", fields.get("finish_reason", "")),
    )


def _call(where: str, value: object) -> Call:
    fields = _object(where, value, {"name", "arguments"})
    arguments = fields.get("arguments", {})
    if not isinstance(arguments, str):
        arguments = _object(f"{where}.arguments", arguments, None)
    return Call(_text(f"{where}.name", fields.get("name")), arguments)


def _pace(where: str, value: object) -> Pace:
    fields = _object(where, value, {"tokens", "delay_ms", "first_delay_ms", "chunk_bytes"})
    delay = fields.get("delay_ms")
    return Pace(
        tokens=max(1, _whole(f"{where}.tokens", fields.get("tokens", 1))),
        delay_ms=None if delay is None else _number(f"{where}.delay_ms", delay),
        first_delay_ms=_number(f"{where}.first_delay_ms", fields.get("first_delay_ms", 0)),
        chunk_bytes=_whole(f"{where}.chunk_bytes", fields.get("chunk_bytes", 0)),
    )


def _fault(where: str, value: object) -> Fault:
    fields = _object(where, value, {"kind", "status", "message", "retry_after", "after_tokens"})
    kinds = ", ".join(FaultKind)
    try:
        kind = FaultKind(_text(f"{where}.kind", fields.get("kind")))
    except ValueError as error:
        raise ScriptError(f"{where}.kind must be one of {kinds}") from error
    status = _whole(f"{where}.status", fields.get("status", 500))
    if not 200 <= status <= 599:
        raise ScriptError(f"{where}.status must be an HTTP status")
    return Fault(
        kind=kind,
        status=status,
        message=_text(f"{where}.message", fields.get("message", "a fault of the mock model's script")),
        retry_after=str(fields.get("retry_after", "")),
        after_tokens=_whole(f"{where}.after_tokens", fields.get("after_tokens", 0)),
    )


def _groups_of(found: re.Match[str]) -> dict[str, str]:
    numbered = {str(number): text or "" for number, text in enumerate(found.groups(), 1)}
    return numbered | {name: text or "" for name, text in found.groupdict().items()}


def _filled(answer: Answer, groups: Mapping[str, str]) -> Answer:
    def fill(value: object) -> object:
        if isinstance(value, str):
            return _GROUP.sub(lambda hole: groups.get(hole[1], hole[0]), value)
        if isinstance(value, dict):
            return {key: fill(inner) for key, inner in value.items()}
        return [fill(inner) for inner in value] if isinstance(value, list) else value

    def filled_call(call: Call) -> Call:
        arguments = fill(call.arguments)
        return Call(call.name, arguments if isinstance(arguments, str | dict) else {})

    return Answer(
        text=str(fill(answer.text)),
        reasoning=str(fill(answer.reasoning)),
        tool_calls=tuple(filled_call(call) for call in answer.tool_calls),
        usage=answer.usage,
        finish_reason=answer.finish_reason,
    )


def _object(where: str, value: object, keys: set[str] | None) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise ScriptError(f"{where} must be an object")
    unknown = set() if keys is None else set(value) - keys
    if unknown:
        raise ScriptError(f"{where} has unknown keys: {', '.join(sorted(unknown))}")
    return value


def _list(where: str, value: object) -> list[object]:
    if not isinstance(value, list):
        raise ScriptError(f"{where} must be a list")
    return value


def _text(where: str, value: object) -> str:
    if not isinstance(value, str):
        raise ScriptError(f"{where} must be text")
    return value


def _bool(where: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ScriptError(f"{where} must be true or false")
    return value


def _number(where: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise ScriptError(f"{where} must be a number of at least 0")
    return value


def _whole(where: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ScriptError(f"{where} must be a whole number of at least 0")
    return value


def _pattern(where: str, value: object) -> re.Pattern[str]:
    try:
        return re.compile(_text(where, value), re.IGNORECASE | re.DOTALL)
    except re.error as error:
        raise ScriptError(f"{where} is not a regular expression: {error}") from error
