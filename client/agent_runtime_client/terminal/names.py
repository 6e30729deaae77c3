"""The contract's enum values as people say them."""

from collections.abc import Callable
from typing import Any, Final

from agent_runtime import v1


def _words(name: Callable[[Any], str], number: int, prefix: str) -> str:
    try:
        found = name(number)
    except ValueError:
        return f"unknown ({number})"
    return found.removeprefix(prefix).replace("_", " ").lower()


def turn_state(state: "v1.TurnState.ValueType") -> str:
    """Such as `waiting for approval`."""
    return _words(v1.TurnState.Name, state, "TURN_STATE_")


def session_state(state: "v1.SessionState.ValueType") -> str:
    """Such as `idle`."""
    return _words(v1.SessionState.Name, state, "SESSION_STATE_")


def approval_state(state: "v1.ApprovalState.ValueType") -> str:
    """Such as `pending`."""
    return _words(v1.ApprovalState.Name, state, "APPROVAL_STATE_")


def risk(level: "v1.RiskLevel.ValueType") -> str:
    """Such as `medium`; a risk nobody set counts as high."""
    return "high" if level == v1.RISK_LEVEL_UNSPECIFIED else _words(v1.RiskLevel.Name, level, "RISK_LEVEL_")


def result_status(status: "v1.ToolResult.Status.ValueType") -> str:
    """Such as `timed out`."""
    return _words(v1.ToolResult.Status.Name, status, "STATUS_")


def recovery_cause(cause: "v1.TurnRecovered.Cause.ValueType") -> str:
    """Why a turn was taken over, as half a sentence."""
    return _CAUSES.get(cause, "its owner changed")


_CAUSES: Final = {
    v1.TurnRecovered.CAUSE_OWNER_LOST: "the server that worked on it was lost",
    v1.TurnRecovered.CAUSE_OWNER_DRAINED: "the server that worked on it is shutting down",
    v1.TurnRecovered.CAUSE_MODEL_RETRY: "the model's answer broke off",
}

NOTICES: Final = {
    v1.TurnNotice.KIND_RETRY: "asks again",
    v1.TurnNotice.KIND_THROTTLED: "goes on",
    v1.TurnNotice.KIND_FALLBACK: "asks",
    v1.TurnNotice.KIND_STORE: "tries again",
}
"""What follows on what holds a turn up."""

_SOURCES: Final = {
    v1.ROUTING_SOURCE_MODEL: "model",
    v1.ROUTING_SOURCE_CACHE: "remembered",
    v1.ROUTING_SOURCE_FALLBACK: "local fallback, the model was unusable",
    v1.ROUTING_SOURCE_EXPLICIT: "you asked for it",
    v1.ROUTING_SOURCE_STICKY: "goes on",
}


def routing_basis(decided: v1.RoutingDecided) -> str:
    """Who chose the agent and how sure, such as `model, high confidence`."""
    source = _SOURCES.get(decided.source, "unknown source")
    if decided.confidence == v1.ROUTING_CONFIDENCE_UNSPECIFIED:
        return source
    sure = _words(v1.RoutingConfidence.Name, decided.confidence, "ROUTING_CONFIDENCE_")
    return f"{source}, {sure} confidence"


def actor(who: v1.Actor) -> str:
    """The best name there is for somebody."""
    return who.display_name or who.subject or "somebody"
