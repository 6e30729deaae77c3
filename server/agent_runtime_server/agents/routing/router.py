"""Chooses the agent for a message: asks a model, and decides by words when the model is of no use."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from agent_runtime import v1
from agent_runtime_server.agents.definition import Agent
from agent_runtime_server.agents.registry import Registry
from agent_runtime_server.agents.routing import fallback
from agent_runtime_server.agents.routing.parse import Choice, parse
from agent_runtime_server.agents.routing.request import routing_messages
from agent_runtime_server.core.errors import ModelError
from agent_runtime_server.core.transcript import Entry
from agent_runtime_server.llm.base import Model, ModelAnswer, ModelRequest

_LONGEST_REASONING = 500


@dataclass(frozen=True, slots=True)
class Route:
    """The agent chosen, how sure the chooser was (`probability` is -1 when unknown), who chose and why."""

    agent_id: str
    confidence: "v1.RoutingConfidence.ValueType"
    probability: float
    source: "v1.RoutingSource.ValueType"
    reasoning: str
    usage: v1.Usage | None = None


async def route(
    model: Model,
    registry: Registry,
    transcript: Sequence[Entry],
    text: str,
    *,
    model_name: str,
    deadline_seconds: float = 10,
    tenant: str = "",
) -> Route:
    """Return the agent for the user's text; it never fails, and takes hardly longer than the deadline."""
    agents = [agent for agent in registry.all() if agent.routable]
    asked = routing_messages(agents, transcript, text)
    request = ModelRequest(model=model_name, messages=asked, temperature=0, tenant=tenant)
    try:
        async with asyncio.timeout(deadline_seconds):
            answer = await model.answer(request)
    except TimeoutError:
        return _by_words(agents, transcript, text, f"the model did not answer within {deadline_seconds:g} s")
    except ModelError as error:
        return _by_words(agents, transcript, text, f"the model failed ({error.wire_reason})")
    return _by_answer(agents, transcript, text, answer)


def _by_answer(agents: Sequence[Agent], transcript: Sequence[Entry], text: str, answer: ModelAnswer) -> Route:
    choice = parse(answer.text, [agent.agent_id for agent in agents])
    if not isinstance(choice, Choice):
        return _by_words(agents, transcript, text, choice, answer.usage)
    return Route(
        agent_id=choice.agent_id,
        confidence=choice.confidence,
        probability=choice.probability,
        source=v1.ROUTING_SOURCE_MODEL,
        reasoning=choice.reasoning[:_LONGEST_REASONING],
        usage=answer.usage,
    )


def _by_words(
    agents: Sequence[Agent],
    transcript: Sequence[Entry],
    text: str,
    why: str,
    usage: v1.Usage | None = None,
) -> Route:
    guess = fallback.classify(text, transcript)
    known = {agent.agent_id for agent in agents}
    return Route(
        agent_id=guess.agent_id if guess.agent_id in known or not known else agents[-1].agent_id,
        confidence=guess.confidence,
        probability=-1,
        source=v1.ROUTING_SOURCE_FALLBACK,
        reasoning=f"Chosen by words, because {why}: {guess.reasoning}"[:_LONGEST_REASONING],
        usage=usage,
    )
