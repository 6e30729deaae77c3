"""Reads a model's routing answer, however it is wrapped."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from agent_runtime import v1

_LONGEST_ANSWER: Final = 20_000
_MOST_OBJECTS: Final = 100
_WORD: Final = re.compile(r"[^\W_]+(?:[-_][^\W_]+)*")
_NUMBER: Final = re.compile(r"\s*(\d{1,3}(?:\.\d+)?|\.\d+)\s*(%?)\s*")
_HIGH, _MEDIUM = 0.8, 0.5
_WORDS: Final = {
    "high": v1.ROUTING_CONFIDENCE_HIGH,
    "medium": v1.ROUTING_CONFIDENCE_MEDIUM,
    "low": v1.ROUTING_CONFIDENCE_LOW,
}


@dataclass(frozen=True, slots=True)
class Choice:
    """What the model chose; `probability` is -1 unless it gave a number."""

    agent_id: str
    confidence: "v1.RoutingConfidence.ValueType"
    probability: float
    reasoning: str


def parse(answer: str, agent_ids: Sequence[str]) -> Choice | str:
    """Return the last choice of a known agent in the answer, or why there is none."""
    unknown = ""
    choice: Choice | None = None
    for found in _objects(answer[:_LONGEST_ANSWER], agent_ids):
        agent_id = _agent(found.get("agent"), agent_ids)
        if agent_id is None:
            unknown = unknown or _quoted(found["agent"])
        else:
            confidence, probability = _confidence(found.get("confidence"))
            choice = Choice(agent_id, confidence, probability, _reasoning(found.get("reasoning")))
    if choice is not None:
        return choice
    if unknown:
        return f"the model named an unknown agent ({unknown})"
    return "the model's answer held no choice"


def _objects(text: str, agent_ids: Sequence[str]) -> Iterator[dict[str, object]]:
    """Yield the JSON objects that name an agent; one that does not is searched for objects inside it."""
    decoder, start = json.JSONDecoder(), text.find("{")
    for _ in range(_MOST_OBJECTS):
        if start < 0:
            return
        end = start + 1
        try:
            value, after = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict) and "agent" in value:
            yield value
            # What stands inside of a choice, such as alternatives, is not the choice.
            end = after if _agent(value["agent"], agent_ids) else end
        start = text.find("{", end)


def _agent(value: object, agent_ids: Sequence[str]) -> str | None:
    """Return the one known agent the value names, as in "Coder", "the coder agent" or "agent: coder"."""
    if not isinstance(value, str):
        return None
    words = {word.casefold() for word in _WORD.findall(value[:200])}
    named = [agent_id for agent_id in agent_ids if agent_id.casefold() in words]
    return named[0] if len(named) == 1 else None


def _quoted(value: object) -> str:
    return repr(_clean(value[:64])) if isinstance(value, str) else "not a name"


def _confidence(value: object) -> tuple["v1.RoutingConfidence.ValueType", float]:
    if isinstance(value, str):
        return _confidence_text(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return v1.ROUTING_CONFIDENCE_UNSPECIFIED, -1
    return _confidence_number(value)


def _confidence_text(text: str) -> tuple["v1.RoutingConfidence.ValueType", float]:
    number = _NUMBER.fullmatch(text[:32])
    if number:
        return _confidence_number(float(number[1]) / (100 if number[2] else 1))
    words = [word.casefold() for word in _WORD.findall(text[:64])]
    known = [_WORDS[word] for word in words if word in _WORDS]
    return (known[0] if known else v1.ROUTING_CONFIDENCE_UNSPECIFIED), -1


def _confidence_number(number: float) -> tuple["v1.RoutingConfidence.ValueType", float]:
    """Rate a number from 0 to 1, or a percentage; anything else says nothing."""
    if not 0 <= number <= 100:  # also false for NaN
        return v1.ROUTING_CONFIDENCE_UNSPECIFIED, -1
    probability = float(number) if number <= 1 else number / 100
    if probability >= _HIGH:
        return v1.ROUTING_CONFIDENCE_HIGH, probability
    if probability >= _MEDIUM:
        return v1.ROUTING_CONFIDENCE_MEDIUM, probability
    return v1.ROUTING_CONFIDENCE_LOW, probability


def _reasoning(value: object) -> str:
    return _clean(value) if isinstance(value, str) else ""


def _clean(text: str) -> str:
    # JSON may hold half of a surrogate pair; the contract's strings may not.
    return text.encode(errors="replace").decode()
