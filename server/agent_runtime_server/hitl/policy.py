"""Rules on one call: deny before ask before allow; what is not known asks."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

from agent_runtime import v1

_RANKED: Final = (v1.RISK_LEVEL_LOW, v1.RISK_LEVEL_MEDIUM, v1.RISK_LEVEL_HIGH)
_LEAST: Final[Mapping["v1.ToolEffect.ValueType", "v1.RiskLevel.ValueType"]] = {
    v1.TOOL_EFFECT_READ: v1.RISK_LEVEL_LOW,
    v1.TOOL_EFFECT_WRITE: v1.RISK_LEVEL_MEDIUM,
}


class Ruling(Enum):
    """What becomes of a call."""

    ALLOW = "allow"
    ASK = "ask"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The ruling, the rules that led to it, the risk after policy, and what the model is told of a refusal."""

    ruling: Ruling
    rules: tuple[str, ...]
    risk: "v1.RiskLevel.ValueType"
    reason: str = ""


class Permissions(Protocol):
    """What an agent may call."""

    def allows(self, tool_name: str, arguments: Mapping[str, object], extra: bool) -> str | None:
        """Return why the agent may not make this call, or None; `extra` marks a tool only the client knows."""
        ...


def judge(agent: Permissions, spec: v1.ToolSpec, arguments: Mapping[str, object], *, standard: bool) -> Verdict:
    """Rule on one call; `standard` says that the spec is the server's own and not a client's word."""
    risk = _risk(spec, standard=standard)
    refusal = agent.allows(spec.name, arguments, not standard)
    if refusal is not None:
        return Verdict(Ruling.DENY, ("not allowed for this agent",), risk, refusal)
    if not standard:
        return Verdict(Ruling.ASK, ("tools declared by the client ask",), risk)
    return _by_effect(spec, risk)


def _by_effect(spec: v1.ToolSpec, risk: "v1.RiskLevel.ValueType") -> Verdict:
    if spec.effect == v1.TOOL_EFFECT_READ:
        return Verdict(Ruling.ALLOW, ("read-only tools run at once",), risk)
    if spec.effect == v1.TOOL_EFFECT_WRITE:
        return Verdict(Ruling.ASK, ("write tools ask",), risk)
    return Verdict(Ruling.ASK, ("commands ask",), risk)


def _risk(spec: v1.ToolSpec, *, standard: bool) -> "v1.RiskLevel.ValueType":
    claimed = spec.risk if spec.risk in _RANKED else v1.RISK_LEVEL_HIGH
    if standard:
        return claimed
    return max(claimed, _LEAST.get(spec.effect, v1.RISK_LEVEL_HIGH))
