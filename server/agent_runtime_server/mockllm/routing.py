"""The built-in answer to a routing request: an agent by keywords."""

import json
import re
from dataclasses import dataclass

from agent_runtime_server.mockllm.play import Answer
from agent_runtime_server.mockllm.seen import Seen


@dataclass(frozen=True, slots=True)
class _Sign:
    agent: str
    pattern: re.Pattern[str]
    reasoning: str


def _sign(agent: str, reasoning: str, pattern: str) -> _Sign:
    return _Sign(agent, re.compile(pattern, re.IGNORECASE | re.DOTALL), reasoning)


_SIGNS = (
    _sign("coder", "it opens with an order to change or run something",
          r"^\W*(please\s+)?(create|write|add|implement|run|rename|refactor|remove|delete|update|make)\b"),
    _sign("ask", "it opens with a request to look something up",
          r"^\W*(please\s+)?(read|show|list|find (?!out)|search|explain|what|how|which)\b(?!.*\bfail)"),
    _sign("debug", "something fails and the cause is asked for",
          r"\b(fail\w*|\w*errors?|\w*exceptions?|traceback|crash\w*|broken|bugs?|debug|why|find out)\b"),
    _sign("architect", "a design is asked for", r"\b(design|plan|architecture|diagram|decide between)\b"),
    _sign("coder", "a change is asked for", r"\b(create|write|add|fix|implement|run|change|rename|refactor)\b"),
    _sign("ask", "it is a question", r"\?|\b(question|explain|tell me)\b"),
)  # fmt: skip


def is_asked(seen: Seen) -> bool:
    """True for a request to choose an agent: no tools, and JSON with a confidence asked for."""
    system = seen.system.lower()
    return not seen.tools and "json" in system and "confidence" in system


def decide(seen: Seen) -> Answer:
    """Return the choice of an agent as JSON."""
    for sign in _SIGNS:
        if sign.pattern.search(seen.last_user):
            return _choice(sign.agent, "high", f"Keywords: {sign.reasoning}.")
    return _choice("ask", "medium", "No keyword of the mock model matches.")


def _choice(agent: str, confidence: str, reasoning: str) -> Answer:
    return Answer(json.dumps({"agent": agent, "confidence": confidence, "reasoning": reasoning}))
