"""Tool calls and their results in words."""

import json
from collections.abc import Mapping, Sequence
from typing import Final

from agent_runtime import v1
from agent_runtime_client.terminal.text import clean, count, reveal, shorten

WIDTH: Final = 100
_MAIN_ARGUMENT: Final = {
    "read_file": "path",
    "write_file": "path",
    "list_files": "path",
    "create_directory": "path",
    "search_in_code": "query",
    "execute_command": "command",
    "switch_agent": "agent_id",
}
_OUTCOMES: Final = {
    v1.ToolResult.STATUS_SUCCEEDED: ("✓", "green", ""),
    v1.ToolResult.STATUS_FAILED: ("✗", "red", "failed"),
    v1.ToolResult.STATUS_REJECTED: ("✗", "yellow", "not run"),
    v1.ToolResult.STATUS_CANCELLED: ("✗", "yellow", "cancelled"),
    v1.ToolResult.STATUS_TIMED_OUT: ("✗", "red", "timed out"),
    v1.ToolResult.STATUS_OUTCOME_UNKNOWN: ("?", "red", "outcome unknown"),
}


class DuplicateKeys(ValueError):
    """A JSON object names a key twice, so what one reader shows is not what another one runs."""


def arguments(call: v1.ToolCall) -> Mapping[str, object] | None:
    """The arguments as an object; None when they are none, or would mean different things to different readers."""
    try:
        value = json.loads(call.arguments_json, object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise DuplicateKeys
    return found


def argument(call: v1.ToolCall, name: str) -> str:
    """One argument as text; empty when it is absent or no text."""
    value = (arguments(call) or {}).get(name)
    return value if isinstance(value, str) else ""


def main_argument(call: v1.ToolCall) -> str:
    """The argument that tells most about the call."""
    return argument(call, _MAIN_ARGUMENT.get(call.tool_name, ""))


def call_line(call: v1.ToolCall, width: int = WIDTH) -> str:
    """Name the call in one line, such as `read_file calc.py`; for display, not for deciding."""
    told = main_argument(call)
    if call.tool_name == "execute_command" and told:
        told = f"$ {told}"
    elif call.tool_name == "search_in_code" and told:
        told = f'"{told}" in {argument(call, "path") or "."}'
    elif not told and call.tool_name not in _MAIN_ARGUMENT:
        told = call.arguments_json
    return shorten(f"{call.tool_name} {told}", width)


def argument_lines(call: v1.ToolCall, without: Sequence[str] = ()) -> tuple[str, ...]:
    """Every argument not in `without`, complete and with nothing hidden, for people who must decide."""
    found = arguments(call)
    if found is None:
        return (*reveal(call.arguments_json).split("\n"),)
    lines: list[str] = []
    for name, value in found.items():
        if name not in without:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            first, *rest = reveal(text).split("\n")
            lines += [f"{reveal(name)}: {first}", *(f"  {line}" for line in rest)]
    return tuple(lines)


def parts_text(parts: Sequence[v1.Part]) -> str:
    """The readable content of parts, with a placeholder for the rest."""
    return "\n".join(_part_text(part) for part in parts)


def _part_text(part: v1.Part) -> str:
    kind = part.WhichOneof("payload")
    if kind in {"text", "json", "uri"}:
        return clean(str(getattr(part, kind)))
    size = f", {count(len(part.data), 'byte')}" if kind == "data" else ""
    return f"[{shorten(part.name or part.media_type or 'unknown content', 40)}{size}]"


def outcome(result: v1.ToolResult) -> tuple[str, str, str]:
    """Sign, style and words for the status of a result."""
    return _OUTCOMES.get(result.status, ("?", "red", "unknown outcome"))


def result_summary(call: v1.ToolCall, result: v1.ToolResult) -> str:
    """Say in a few words what came of the call."""
    words = outcome(result)[2]
    if result.error_message:
        return f"{words}: {shorten(result.error_message, WIDTH)}" if words else shorten(result.error_message, WIDTH)
    if result.status != v1.ToolResult.STATUS_SUCCEEDED:
        return words
    cached = ", from the cache" if result.source == v1.ToolResult.SOURCE_CACHE else ""
    return _content_summary(call, parts_text(result.content)) + cached


def _content_summary(call: v1.ToolCall, text: str) -> str:
    lines = text.splitlines()
    if call.tool_name == "execute_command":
        return next((shorten(line, WIDTH) for line in lines if line.startswith("exit")), "")
    if len(lines) == 1:
        return shorten(lines[0], 60)
    return count(len(lines), "line") if lines else ""
