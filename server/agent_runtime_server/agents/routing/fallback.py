"""Chooses an agent by the words of a message, in English and Russian.

It knows the policy, not the language: the outcome asked for decides. When no outcome stands out the ask agent, which
can do no harm and hands over, takes the message; never the coder by guess.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from agent_runtime import v1
from agent_runtime_server.agents.routing import words
from agent_runtime_server.core.transcript import Answered, Entry

_LONGEST_HEAD: Final = 600
_BARE_WORDS: Final = 8
_LEAST_SCORE: Final = 1.5  # a noun alone asks for nothing
_SURE_MARGIN: Final = 2.0
_UNDECIDED: Final = "ask"


@dataclass(frozen=True, slots=True)
class Guess:
    """The agent the words speak for, and which words."""

    agent_id: str
    confidence: "v1.RoutingConfidence.ValueType"
    reasoning: str


@dataclass(frozen=True, slots=True)
class _Before:
    agent_id: str = ""
    failed: bool = False


def classify(text: str, transcript: Sequence[Entry] = ()) -> Guess:
    """Return the agent that the words of the text, and what happened before it, speak for."""
    request = text[:_LONGEST_HEAD].strip().lower()
    return _by_context(request, _before(transcript)) or _by_words(request)


def _before(transcript: Sequence[Entry]) -> _Before:
    answers = [entry for entry in transcript if isinstance(entry, Answered)]
    if not answers:
        return _Before()
    results = [called.result for called in answers[-1].calls if called.result is not None]
    failed = any(result.status == v1.ToolResult.STATUS_FAILED for result in results)
    return _Before(answers[-1].message.agent_id, failed)


def _by_context(request: str, before: _Before) -> Guess | None:
    if not before.agent_id or len(request.split()) > _BARE_WORDS:
        return None
    if words.GO_AHEAD.match(request) and before.agent_id in {"architect", "debug", "coder"}:
        return Guess("coder", v1.ROUTING_CONFIDENCE_MEDIUM, f"an agreement after {before.agent_id}")
    if words.BARE_WHY.fullmatch(request):
        agent_id = "debug" if before.failed else "ask"
        return Guess(agent_id, v1.ROUTING_CONFIDENCE_MEDIUM, f"a bare question after {before.agent_id}")
    return None


def _by_words(request: str) -> Guess:
    scores: dict[str, float] = {}
    seen: dict[str, list[str]] = {}
    for cue in words.CUES:
        match = cue.pattern.search(request)
        if match:
            scores[cue.agent_id] = scores.get(cue.agent_id, 0) + cue.weight
            seen.setdefault(cue.agent_id, []).append(_quoted(match))
    return _decide(scores, seen)


def _quoted(match: re.Match[str]) -> str:
    return repr(" ".join(match[0].split())[:40])


def _decide(scores: Mapping[str, float], seen: Mapping[str, list[str]]) -> Guess:
    ranked = sorted(scores, key=lambda agent_id: -scores[agent_id])
    if not ranked or scores[ranked[0]] < _LEAST_SCORE:
        return Guess(_UNDECIDED, v1.ROUTING_CONFIDENCE_LOW, "no word tells what is asked for")
    margin = scores[ranked[0]] - (scores[ranked[1]] if len(ranked) > 1 else 0)
    if margin <= 0:
        both = f"the words speak for {ranked[0]} and {ranked[1]} alike"
        return Guess(_UNDECIDED, v1.ROUTING_CONFIDENCE_LOW, both)
    confidence = v1.ROUTING_CONFIDENCE_MEDIUM if margin >= _SURE_MARGIN else v1.ROUTING_CONFIDENCE_LOW
    return Guess(ranked[0], confidence, f"it says {', '.join(seen[ranked[0]][:3])}")
