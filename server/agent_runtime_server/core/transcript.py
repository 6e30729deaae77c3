"""The conversation as a model has to see it: what was said, answered, called and returned, in order."""

from dataclasses import dataclass, field

from agent_runtime import v1


@dataclass(slots=True)
class Said:
    """The user said something."""

    message: v1.UserMessage


@dataclass(slots=True)
class Called:
    """One call of an answer; `call` has the final arguments, `result` is None while it is open."""

    call: v1.ToolCall
    result: v1.ToolResult | None = None


@dataclass(slots=True)
class Answered:
    """The model answered; its calls stand in the order in which it asked for them."""

    message: v1.AssistantMessage
    calls: list[Called] = field(default_factory=list)


@dataclass(slots=True)
class HandedOff:
    """Another agent went on."""

    handoff: v1.AgentHandoff


Entry = Said | Answered | HandedOff
