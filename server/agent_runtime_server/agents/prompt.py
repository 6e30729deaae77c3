"""Turns an agent and the conversation into the messages of an OpenAI-style chat request.

Endpoints refuse a request when a call has no result, or a result no call. So calls are sent together with exactly one
result each, right behind them and in their order, whatever the log holds. They refuse one that is too long, too: the
transcript forgets old turns, and of a long turn what the oldest calls returned is left out here.
"""

import json
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

from agent_runtime import v1
from agent_runtime_server.agents import rendering
from agent_runtime_server.agents.definition import Agent
from agent_runtime_server.agents.wire_names import wire_name
from agent_runtime_server.core.transcript import Answered, Called, Entry, HandedOff, Said
from agent_runtime_server.llm.messages import Message, Written, write

_MOST_RESULTS: Final = 384 << 10  # characters of all results
_LEFT_OUT_AT_ONCE: Final = _MOST_RESULTS // 4  # so that most requests begin like the one before, which endpoints cache
_LEFT_OUT: Final = "[Left out, for the conversation has become long. Call the tool again if you need this result.]"


def messages(agent: Agent, transcript: Sequence[Entry], *, others: Sequence[Agent]) -> Written:
    """Return the whole request: what the agent is told, then the conversation as it went."""
    handoffs = [entry.handoff for entry in transcript if isinstance(entry, HandedOff)]
    system: Message = {"role": "system", "content": _system(agent, handoffs[-1] if handoffs else None, others)}
    said = [entry.rendered or _rendered(entry) for entry in transcript]
    asked = Written([write([system]), *filter(None, said)])
    if len(asked.json) <= _MOST_RESULTS:
        return asked
    return Written([write(_bounded([*asked]))])


def _rendered(entry: Entry) -> bytes:
    """Render an entry, once when it is whole."""
    if isinstance(entry, HandedOff):
        return b""
    if isinstance(entry, Said):
        entry.rendered = found = write(_said(entry.message))
        return found
    found = write(_answered(entry))
    if all(called.result is not None for called in entry.calls):
        entry.rendered = found
    return found


def _bounded(found: list[Message]) -> list[Message]:
    """Leave out the oldest results beyond the bound, but none of the last answer's calls."""
    over = sum(len(str(message["content"])) for message in found if message["role"] == "tool") - _MOST_RESULTS
    if over <= 0:
        return found
    to_leave_out = -(-over // _LEFT_OUT_AT_ONCE) * _LEFT_OUT_AT_ONCE
    last_calls = max((index for index, message in enumerate(found) if "tool_calls" in message), default=0)
    for index, message in enumerate(found[:last_calls]):
        if to_leave_out <= 0:
            break
        size = len(str(message["content"]))
        if message["role"] == "tool" and size > len(_LEFT_OUT):
            found[index] = {**message, "content": _LEFT_OUT}
            to_leave_out -= size
    return found


def tool_definitions(specs: Iterable[v1.ToolSpec]) -> list[dict[str, object]]:
    """Return the tools as function definitions."""
    return [_definition(spec.name, spec.description, spec.input_schema_json) for spec in specs]


@lru_cache(maxsize=1024)
def _definition(name: str, description: str, schema_json: str) -> dict[str, object]:
    function = {"name": wire_name(name), "description": description, "parameters": _parameters(schema_json)}
    return {"type": "function", "function": function}


def _parameters(schema_json: str) -> dict[str, object]:
    schema: dict[str, object] = json.loads(schema_json or "{}")
    return {"type": "object", "properties": {}} | schema


def _system(agent: Agent, last: v1.AgentHandoff | None, others: Sequence[Agent]) -> str:
    sections = [agent.prompt]
    reachable = [other for other in others if other.agent_id in agent.handoff_agent_ids]
    if reachable and "switch_agent" in agent.tools:
        lines = [f"- {other.agent_id}: {other.description}" for other in reachable]
        sections.append("\n".join(["Agents you may hand over to with switch_agent:", *lines]))
    if last is not None and last.to_agent_id == agent.agent_id:
        sections.append(_handoff_note(last))
    return "\n\n".join(sections)


def _handoff_note(last: v1.AgentHandoff) -> str:
    # It stands in the first message because many endpoints take a system message nowhere else.
    reason = f" Reason given: {last.reason}" if last.reason else ""
    giver = last.from_agent_id or "another agent"
    return f"The task was handed to you by {giver}; the conversation so far is theirs.{reason}"


def _said(message: v1.UserMessage) -> list[Message]:
    found: list[Message] = []
    if message.context:
        found.append({"role": "user", "content": rendering.context(message.context)})
    found.append({"role": "user", "content": rendering.user_text(message)})
    return found


def _answered(entry: Answered) -> list[Message]:
    text = rendering.parts(entry.message.parts)
    if not entry.calls:
        return [{"role": "assistant", "content": text}] if text.strip() else []
    answer: Message = {
        "role": "assistant",
        "content": text or None,
        "tool_calls": [_tool_call(called.call) for called in entry.calls],
    }
    return [answer, *(_tool_result(called) for called in entry.calls)]


def _tool_call(call: v1.ToolCall) -> dict[str, object]:
    function = {"name": wire_name(call.tool_name), "arguments": call.arguments_json or "{}"}
    return {"id": call.call_id, "type": "function", "function": function}


def _tool_result(called: Called) -> Message:
    content = rendering.result(called.result)
    return {"role": "tool", "tool_call_id": called.call.call_id, "content": content}
