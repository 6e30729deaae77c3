"""The standard client tools as this client declares them; the server's own words on them win."""

import json
from typing import Any, Final

from google.protobuf.duration_pb2 import Duration

from agent_runtime import v1
from agent_runtime_client.tools.limits import Limits

_STRING: Final = {"type": "string"}
_FLAG: Final = {"type": "boolean"}
_LINE: Final = {"type": "integer", "minimum": 1}
_PATH: Final = {"type": "string", "minLength": 1, "description": "Path relative to the workspace"}


def standard_specs(limits: Limits) -> list[v1.ToolSpec]:
    """Return the declarations of the standard tools."""
    seconds = {"type": "number", "exclusiveMinimum": 0, "maximum": limits.command_seconds_most, "default": 60}
    results = {"type": "integer", "minimum": 1, "maximum": limits.search_results, "default": 100}
    return [
        _read(
            "read_file", "Read a text file.", ["path"], path=_PATH, encoding=_STRING, start_line=_LINE, end_line=_LINE
        ),
        _read(
            "list_files", "List a directory.", [], path=_PATH, recursive=_FLAG, include_hidden=_FLAG, pattern=_STRING
        ),
        _read(
            "search_in_code",
            "Search for a text or a regular expression in files.",
            ["query"],
            query=_STRING,
            path=_PATH,
            file_pattern=_STRING,
            case_sensitive=_FLAG,
            regex=_FLAG,
            max_results=results,
        ),
        _write(
            "write_file",
            "Write a text file.",
            ["path", "content"],
            path=_PATH,
            content=_STRING,
            encoding=_STRING,
            create_dirs=_FLAG,
            backup=_FLAG,
        ),
        _write("create_directory", "Make a directory.", ["path"], path=_PATH, recursive=_FLAG),
        _execute(
            limits, "execute_command", "Run a shell command.", ["command"], command=_STRING, cwd=_PATH, timeout=seconds
        ),
    ]


def _read(name: str, description: str, required: list[str], **properties: Any) -> v1.ToolSpec:
    spec = _spec(name, description, required, properties)
    spec.effect, spec.risk, spec.idempotent = v1.TOOL_EFFECT_READ, v1.RISK_LEVEL_LOW, True
    return spec


def _write(name: str, description: str, required: list[str], **properties: Any) -> v1.ToolSpec:
    spec = _spec(name, description, required, properties)
    spec.effect, spec.risk = v1.TOOL_EFFECT_WRITE, v1.RISK_LEVEL_MEDIUM
    return spec


def _execute(limits: Limits, name: str, description: str, required: list[str], **properties: Any) -> v1.ToolSpec:
    spec = _spec(name, description, required, properties)
    spec.effect, spec.risk = v1.TOOL_EFFECT_EXECUTE, v1.RISK_LEVEL_HIGH
    spec.timeout.CopyFrom(Duration(seconds=int(limits.command_seconds_most)))
    return spec


def _spec(name: str, description: str, required: list[str], properties: dict[str, Any]) -> v1.ToolSpec:
    schema = {"type": "object", "properties": properties, "required": required}
    return v1.ToolSpec(name=name, description=description, input_schema_json=json.dumps(schema))
