"""The seam to a model: one request in, deltas while it answers, one answer out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Protocol

from agent_runtime import v1
from agent_runtime_server.llm.messages import Message


class Channel(StrEnum):
    """What a piece of an answer belongs to."""

    TEXT = "text"
    REASONING = "reasoning"
    TOOL_ARGUMENTS = "tool_arguments"


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of an answer; `call_index` is the call's place in `ModelAnswer.calls`."""

    channel: Channel
    text: str
    call_index: int = 0
    tool_name: str = ""


Sink = Callable[[Sequence[Delta]], None]
"""Called once for each network read, with everything that read brought, in order."""


@dataclass(frozen=True, slots=True)
class RequestedCall:
    """A tool call the model asks for; the arguments are its raw text (`{}` when it gave none)."""

    name: str
    arguments_json: str


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """What a model is asked: messages and tools in the OpenAI chat shape."""

    model: str
    messages: Sequence[Message]
    tools: Sequence[Mapping[str, object]] = ()
    temperature: float | None = None
    max_output_tokens: int | None = None
    tenant: str = ""  # whose call it is; no endpoint is told


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """A complete answer; `calls` stand in the order in which the model began them."""

    text: str
    reasoning: str
    calls: tuple[RequestedCall, ...]
    usage: v1.Usage
    finish_reason: str
    model: str


class Hold(Enum):
    """What holds a call up."""

    RETRY = "retry"
    THROTTLED = "throttled"
    FALLBACK = "fallback"


@dataclass(frozen=True, slots=True)
class Delay:
    """A call is held up: why, for how long, and which call of which model follows."""

    hold: Hold
    reason: str
    seconds: float
    model: str
    call_number: int


Tell = Callable[[Delay], None]
"""Called when a call is held up, before the wait."""


class Endpoint(Protocol):
    """One model endpoint; it fails with ModelUnavailable or ModelRejected and nothing else."""

    @property
    def address(self) -> str:
        """Host and port."""
        ...

    async def answer(self, request: ModelRequest, sink: Sink | None = None) -> ModelAnswer:
        """Return the whole answer, having told `sink` of it piece by piece; cancelling ends the request."""
        ...

    async def probe(self) -> None:
        """Return when the endpoint answers; raise ModelUnavailable when it does not."""
        ...

    async def aclose(self) -> None:
        """Close the connections."""
        ...


class Model(Protocol):
    """What answers a request, by whatever endpoint can; it fails as an Endpoint does."""

    async def answer(self, request: ModelRequest, sink: Sink | None = None, tell: Tell | None = None) -> ModelAnswer:
        """Return the whole answer; raise ModelBrokeOff when `sink` was told of one that will not be ended."""
        ...


class Models(Model, Protocol):
    """A Model that knows whether it is worth asking."""

    def room(self, model: str) -> int:
        """Return how many calls of a model may begin now without being turned away at once."""
        ...

    def on_change(self, changed: Callable[[], None]) -> None:
        """Call `changed` when `room` may have grown."""
        ...
