"""Scripts for the mock model, and what it was asked."""

from collections.abc import Sequence
from typing import Any

from agent_runtime_server.mockllm.server import MockServer

Rule = dict[str, Any]
Asked = tuple[str, dict[str, Any] | str]
"""The name of a tool, and arguments as an object or as the text that is sent."""


def says(text: str, **rule: Any) -> Rule:
    """Return a rule that answers with text; `rule` may hold match, pace and fault."""
    return {"answer": {"text": text}} | rule


def calls(*wanted: Asked, text: str = "", **rule: Any) -> Rule:
    """Return a rule that answers once, with tool calls."""
    tool_calls = [{"name": name, "arguments": arguments} for name, arguments in wanted]
    once: Rule = {"match": {"times": 1}, "answer": {"text": text, "tool_calls": tool_calls}}
    return once | rule


def asked(model: MockServer) -> Sequence[dict[str, Any]]:
    """Return the requests that the model got, oldest first."""
    return [entry.request for entry in model.journal if isinstance(entry.request, dict)]


def messages(model: MockServer, number: int = -1) -> list[dict[str, Any]]:
    """Return the messages of one request, the last one unless told otherwise."""
    found: list[dict[str, Any]] = asked(model)[number]["messages"]
    return found
