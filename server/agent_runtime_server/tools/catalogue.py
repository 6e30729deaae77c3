"""The tools this service knows by itself: the client's standard tools and the ones that run in the runtime."""

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import cache
from types import MappingProxyType
from typing import Final

from agent_runtime import v1

_COMMAND_LIMIT: Final = timedelta(seconds=300)
_LONGEST_PATH: Final = 4096
_MOST_OPTIONS: Final = 8
_LONGEST_OPTION: Final = 1024


def _text(description: str, **rules: object) -> dict[str, object]:
    return {"type": "string", "description": description, **rules}


def _path(description: str, **rules: object) -> dict[str, object]:
    return _text(description, minLength=1, maxLength=_LONGEST_PATH, **rules)


def _flag(description: str, *, default: bool) -> dict[str, object]:
    return {"type": "boolean", "description": description, "default": default}


def _integer(description: str, minimum: int, maximum: int, **rules: object) -> dict[str, object]:
    return {"type": "integer", "description": description, "minimum": minimum, "maximum": maximum, **rules}


_ENCODING: Final = _text("Text encoding of the file.", minLength=1, maxLength=64, default="utf-8")


def _schema(properties: Mapping[str, object], required: Sequence[str]) -> str:
    return json.dumps(
        {
            "type": "object",
            "properties": properties,
            "required": list(required),
            "additionalProperties": False,
        }
    )


def _read(name: str, description: str, properties: Mapping[str, object], required: Sequence[str]) -> v1.ToolSpec:
    return v1.ToolSpec(
        name=name,
        description=description,
        input_schema_json=_schema(properties, required),
        risk=v1.RISK_LEVEL_LOW,
        effect=v1.TOOL_EFFECT_READ,
        idempotent=True,
    )


def _write(name: str, description: str, properties: Mapping[str, object], required: Sequence[str]) -> v1.ToolSpec:
    return v1.ToolSpec(
        name=name,
        description=description,
        input_schema_json=_schema(properties, required),
        risk=v1.RISK_LEVEL_MEDIUM,
        effect=v1.TOOL_EFFECT_WRITE,
    )


def _read_file() -> v1.ToolSpec:
    properties = {
        "path": _path("File to read, relative to the root of the workspace."),
        "encoding": _ENCODING,
        "start_line": _integer("First line to return, counted from 1.", 1, 2**31 - 1),
        "end_line": _integer("Last line to return, inclusive.", 1, 2**31 - 1),
    }
    return _read(
        "read_file",
        "Return the text of a file of the user's workspace, up to 10 MB. For a large file ask for a range of lines.",
        properties,
        ["path"],
    )


def _write_file() -> v1.ToolSpec:
    properties = {
        "path": _path("File to write, relative to the root of the workspace."),
        "content": _text("The complete new text of the file."),
        "encoding": _ENCODING,
        "create_dirs": _flag("Make missing parent directories.", default=False),
        "backup": _flag("Keep a copy of the former file.", default=True),
    }
    return _write(
        "write_file",
        "Create a file of the user's workspace or replace its whole text, up to 1 MB a call. "
        "Read a file before you replace it and give the full new text, never a part or a diff.",
        properties,
        ["path", "content"],
    )


def _list_files() -> v1.ToolSpec:
    properties = {
        "path": _path("Directory to list, relative to the root of the workspace.", default="."),
        "recursive": _flag("Include everything below it.", default=False),
        "include_hidden": _flag("Include names that start with a dot.", default=False),
        "pattern": _text("Return only names that match this glob, such as *.py.", maxLength=1024),
    }
    return _read("list_files", "List the files and directories of the user's workspace.", properties, [])


def _create_directory() -> v1.ToolSpec:
    properties = {
        "path": _path("Directory to make, relative to the root of the workspace."),
        "recursive": _flag("Make missing parent directories too.", default=True),
    }
    return _write("create_directory", "Make a directory in the user's workspace.", properties, ["path"])


def _search_in_code() -> v1.ToolSpec:
    properties = {
        "query": _text("Text to look for, or a regular expression.", minLength=1, maxLength=4096),
        "path": _path("Directory or file to search, relative to the root of the workspace.", default="."),
        "file_pattern": _text("Search only files that match this glob, such as *.py.", maxLength=1024),
        "case_sensitive": _flag("Tell upper and lower case apart.", default=False),
        "regex": _flag("Read the query as a regular expression.", default=False),
        "max_results": _integer("Stop after this many matches.", 1, 1000, default=100),
    }
    return _read(
        "search_in_code",
        "Search the files of the user's workspace and return the matching lines with path and line number.",
        properties,
        ["query"],
    )


def _execute_command() -> v1.ToolSpec:
    longest = int(_COMMAND_LIMIT.total_seconds())
    properties = {
        "command": _text("The command line to run.", minLength=1, maxLength=65536),
        "cwd": _path("Directory to run in, relative to the root of the workspace.", default="."),
        "timeout": _integer("Seconds after which the command is stopped.", 1, longest, default=60),
        "shell": _flag(
            "Run through the shell, so that pipes, && and variables work; "
            "otherwise the first word is the program and the rest its arguments.",
            default=False,
        ),
    }
    spec = v1.ToolSpec(
        name="execute_command",
        description="Run a program on the user's machine and return its exit status and output. "
        "It must need no input and end by itself: start no servers, watchers or editors.",
        input_schema_json=_schema(properties, ["command"]),
        risk=v1.RISK_LEVEL_HIGH,
        effect=v1.TOOL_EFFECT_EXECUTE,
    )
    spec.timeout.FromTimedelta(_COMMAND_LIMIT)
    return spec


@cache
def switch_agent(agent_ids: tuple[str, ...] = ()) -> v1.ToolSpec:
    """Return the handoff tool; the agents named are the only ones it takes, none named means any."""
    agent = _text("The agent that shall go on.", minLength=1, maxLength=64)
    if agent_ids:
        agent["enum"] = list(agent_ids)
    properties = {
        "agent": agent,
        "reason": _text("Why, and what the other agent needs to know.", maxLength=4096),
    }
    return _read(
        "switch_agent",
        "Hand the task to another agent when it asks for something that you cannot or must not do. "
        "The other agent sees the whole conversation.",
        properties,
        ["agent"],
    )


def _ask_followup_question() -> v1.ToolSpec:
    option = {"type": "string", "minLength": 1, "maxLength": _LONGEST_OPTION}
    options = {
        "type": "array",
        "items": option,
        "maxItems": _MOST_OPTIONS,
        "description": "Answers to suggest; the user may always answer in own words.",
    }
    properties = {"question": _text("The question.", minLength=1, maxLength=16384), "options": options}
    return _read(
        "ask_followup_question",
        "Ask the user one question and wait for the answer. "
        "Use it only for what the workspace cannot tell you and what you cannot sensibly assume.",
        properties,
        ["question"],
    )


def _attempt_completion() -> v1.ToolSpec:
    properties = {"result": _text("What was done or found, for the user.", minLength=1)}
    return _read(
        "attempt_completion",
        "Finish the task and show the result to the user. Call it alone, once everything is done and checked.",
        properties,
        ["result"],
    )


def _by_name(*specs: v1.ToolSpec) -> Mapping[str, v1.ToolSpec]:
    return MappingProxyType({spec.name: spec for spec in specs})


STANDARD: Final = _by_name(
    _read_file(), _list_files(), _search_in_code(), _write_file(), _create_directory(), _execute_command()
)
"""The standard client tools by name: whatever a client declares under these names, this holds."""

SERVER: Final = _by_name(switch_agent(), _ask_followup_question(), _attempt_completion())
"""The tools that run inside the runtime, by name."""


def is_standard(name: str) -> bool:
    """Tell whether the name is one of the standard client tools."""
    return name in STANDARD


def is_server(name: str) -> bool:
    """Tell whether the name is one of the tools that run inside the runtime."""
    return name in SERVER


def offered(declared: Sequence[v1.ToolSpec]) -> dict[str, v1.ToolSpec]:
    """Return the client tools a declared list makes available; the names of server tools stay ours."""
    return {spec.name: STANDARD.get(spec.name, spec) for spec in declared if not is_server(spec.name)}


def call_timeout(spec: v1.ToolSpec, arguments_json: str) -> timedelta | None:
    """Return how long one call may take, None when nobody said; a command's own `timeout` counts."""
    longest = spec.timeout.ToTimedelta() if spec.HasField("timeout") else None
    if spec.name != "execute_command" or longest is None:
        return longest
    own = _own_timeout(arguments_json)
    return longest if own is None else min(timedelta(seconds=own), longest)


def _own_timeout(arguments_json: str) -> float | None:
    try:
        arguments = json.loads(arguments_json)
    except (ValueError, RecursionError):
        return None
    value = arguments.get("timeout") if isinstance(arguments, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 86400:
        return None
    return value
