"""The arguments of a call, read field by field; a wrong one is named."""

import json
from typing import Any, Final

from agent_runtime import v1
from agent_runtime_client.errors import ToolFailed

_REQUIRED: Final = object()


class Arguments:
    """The JSON object a tool is called with; fields a tool does not ask for are ignored."""

    def __init__(self, call: v1.ToolCall) -> None:
        try:
            values = json.loads(call.arguments_json or "{}")
        except (ValueError, RecursionError) as error:
            raise ToolFailed(f"arguments: not valid JSON: {error}") from error
        if not isinstance(values, dict):
            raise ToolFailed("arguments: must be a JSON object")
        self._values: dict[str, Any] = values

    def text(self, name: str, default: str | object = _REQUIRED) -> str:
        """Return a string."""
        value = self._value(name, default)
        if not isinstance(value, str):
            raise ToolFailed(f"{name}: must be a string")
        return value

    def flag(self, name: str, *, default: bool) -> bool:
        """Return a boolean."""
        value = self._value(name, default)
        if not isinstance(value, bool):
            raise ToolFailed(f"{name}: must be true or false")
        return value

    def number(self, name: str, default: float, *, low: float, high: float) -> float:
        """Return a number from `low` to `high`."""
        value = self._value(name, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ToolFailed(f"{name}: must be a number")
        if not low <= value <= high:
            raise ToolFailed(f"{name}: must be from {low:g} to {high:g}")
        return value

    def line(self, name: str) -> int | None:
        """Return a line number, from 1; None when it is not given."""
        value = self._value(name, None)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ToolFailed(f"{name}: must be a whole number from 1")
        return value

    def _value(self, name: str, default: object) -> object:
        value = self._values.get(name)
        # Models write null for what they leave out.
        value = default if value is None else value
        if value is _REQUIRED:
            raise ToolFailed(f"{name}: is required")
        return value
