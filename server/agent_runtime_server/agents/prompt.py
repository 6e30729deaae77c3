"""Turns an agent and the conversation into the messages of an OpenAI-style chat request.

Endpoints refuse a request when a call has no result, or a result no call. So calls are sent together with exactly one
result each, right behind them and in their order, whatever the log holds. They refuse one that is too long, too: the
transcript forgets old turns, and of a long turn what the oldest calls returned is left out here.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Final

from agent_runtime import v1
from agent_runtime_server.agents import rendering
from agent_runtime_server.agents.definition import Agent
from agent_runtime_server.agents.wire_names import wire_name
from agent_runtime_server.core.transcript import Answered, Called, Entry, HandedOff, Said
from agent_runtime_server.llm.messages import Message, Written, write

_MOST_CALLED: Final = 384 << 10  # bytes of all answers that called something, with what that returned
_LEFT_OUT_AT_ONCE: Final = _MOST_CALLED // 4  # so that most requests begin like the one before, which endpoints cache
_LEFT_OUT: Final = "[Left out, for the conversation has become long. Call the tool again if you need this result.]"


def messages(agent: Agent, transcript: Sequence[Entry], *, others: Sequence[Agent]) -> Written:
    """Return the whole request: what the agent is told, then the conversation as it went."""
    handoffs = [entry.handoff for entry in transcript if isinstance(entry, HandedOff)]
    system: Message = {"role": "system", "content": _system(agent, handoffs[-1] if handoffs else None, others)}
    said = [entry.rendered or _rendered(entry) for entry in transcript]
    if sum(map(len, said)) > _MOST_CALLED:
        _shorten(said, transcript)
    return Written([write([system]), *filter(None, said)])


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


def _shorten(said: list[bytes], transcript: Sequence[Entry]) -> None:
    """Leave out what the oldest calls returned, beyond the bound, but of none of the last answer's calls."""
    called = [(place, entry) for place, entry in enumerate(transcript) if isinstance(entry, Answered) and entry.calls]
    over = sum(len(said[place]) for place, _ in called) - _MOST_CALLED
    to_leave_out = -(-over // _LEFT_OUT_AT_ONCE) * _LEFT_OUT_AT_ONCE
    for place, entry in called[:-1]:
        if to_leave_out <= 0:
            break
        entry.shortened = entry.shortened or write(_without_results(entry))
        to_leave_out -= len(said[place]) - len(entry.shortened)
        said[place] = entry.shortened


def _without_results(entry: Answered) -> Iterator[Message]:
    for message in _answered(entry):
        too_long = message["role"] == "tool" and len(str(message["content"])) > len(_LEFT_OUT)
        yield {**message, "content": _LEFT_OUT} if too_long else message


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
