"""A chat request as the mock model sees it."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

AGENTS: Final = ("orchestrator", "coder", "architect", "debug", "ask")


class BadRequest(Exception):
    """The request is one that a real endpoint would refuse; the text says why."""


@dataclass(frozen=True, slots=True)
class PastCall:
    """A tool call of an earlier answer, and what came back."""

    call_id: str
    name: str
    arguments: Mapping[str, object]
    result: str | None = None

    def argument(self, name: str) -> str:
        """Return an argument as text; empty when it is not there."""
        value = self.arguments.get(name)
        return value if isinstance(value, str) else ""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a request says; `calls` are those of the whole transcript, `fresh` those since the last user message."""

    model: str = ""
    stream: bool = False
    wants_usage: bool = False
    system: str = ""
    last_user: str = ""
    last_role: str = ""
    tool_result: str = ""
    tools: frozenset[str] = frozenset()
    calls: tuple[PastCall, ...] = ()
    fresh: tuple[PastCall, ...] = ()
    size: int = field(default=0)

    @property
    def agent(self) -> str:
        """The agent that the system message says this is; empty when it says none."""
        names = "|".join(AGENTS)
        own = re.search(rf"\byou are (?:the |an? |called |named )?\W{{0,3}}({names})\b", self.system, re.IGNORECASE)
        return own[1].lower() if own else ""


def read_request(body: object) -> Seen:
    """Return what a request says; raise BadRequest as a real endpoint would."""
    if not isinstance(body, dict):
        raise BadRequest("the body must be a JSON object")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(m, dict) for m in messages):
        raise BadRequest("messages must be a list of at least one object")
    if not isinstance(body.get("model"), str):
        raise BadRequest("model must be a string")
    check_transcript(messages)
    results = {str(m.get("tool_call_id")): text_of(m.get("content")) for m in messages if m.get("role") == "tool"}
    users = [place for place, m in enumerate(messages) if m.get("role") == "user"]
    last_user = users[-1] if users else -1
    options = body.get("stream_options")
    return Seen(
        model=body["model"],
        stream=body.get("stream") is True,
        wants_usage=isinstance(options, dict) and options.get("include_usage") is True,
        system="\n".join(text_of(m.get("content")) for m in messages if m.get("role") in ("system", "developer")),
        last_user=text_of(messages[last_user].get("content")) if users else "",
        last_role=str(messages[-1].get("role")),
        tool_result=list(results.values())[-1] if results else "",
        tools=frozenset(_tool_names(body.get("tools"))),
        calls=tuple(_past_calls(messages, results)),
        fresh=tuple(_past_calls(messages[last_user + 1 :], results)),
        size=sum(len(text_of(m.get("content"))) for m in messages),
    )


def check_transcript(messages: Sequence[Mapping[str, object]]) -> None:
    """Raise BadRequest unless each tool call is answered once, right after the answer that asked for it."""
    open_calls: list[str] = []
    for place, message in enumerate(messages):
        role = message.get("role")
        if role not in ("system", "developer", "user", "assistant", "tool"):
            raise BadRequest(f"messages[{place}].role is not a role")
        if role == "tool":
            call_id = str(message.get("tool_call_id"))
            if call_id not in open_calls:
                raise BadRequest(f"messages[{place}] answers no tool call of the answer before it: {call_id}")
            open_calls.remove(call_id)
        elif open_calls:
            raise BadRequest(f"messages[{place}] comes before the answers of tool calls {', '.join(open_calls)}")
        if role == "assistant":
            open_calls = [str(call.get("id")) for call in _tool_calls(message)]
    if open_calls:
        raise BadRequest(f"tool calls without an answer: {', '.join(open_calls)}")


def text_of(content: object) -> str:
    """Return the text of a message's content, which may be a string or a list of parts."""
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _tool_names(tools: object) -> list[str]:
    functions = [tool.get("function") for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []
    return [str(function.get("name")) for function in functions if isinstance(function, dict)]


def _tool_calls(message: Mapping[str, object]) -> list[Mapping[str, object]]:
    calls = message.get("tool_calls")
    return [call for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []


def _past_calls(messages: Sequence[Mapping[str, object]], results: Mapping[str, str]) -> list[PastCall]:
    past = []
    for call in (call for message in messages for call in _tool_calls(message)):
        function = call.get("function")
        function = function if isinstance(function, dict) else {}
        call_id = str(call.get("id"))
        arguments = _json_object(function.get("arguments"))
        past.append(PastCall(call_id, str(function.get("name")), arguments, results.get(call_id)))
    return past


def _json_object(text: object) -> Mapping[str, object]:
    try:
        value = json.loads(text) if isinstance(text, str) else None
    except ValueError:
        value = None
    return value if isinstance(value, dict) else {}
