"""The built-in behaviour: what the mock model says when no rule of its script matches."""

from agent_runtime_server.mockllm import repair, requests, routing
from agent_runtime_server.mockllm.play import Answer
from agent_runtime_server.mockllm.seen import Seen


def behave(seen: Seen) -> Answer:
    """Return the answer to a request: a routing decision, a step of a repair, or a small request carried out."""
    if routing.is_asked(seen):
        return routing.decide(seen)
    if repair.is_asked(seen):
        return repair.step(seen)
    return requests.step(seen)
