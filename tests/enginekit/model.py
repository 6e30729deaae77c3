"""A model that answers as a test has written it down."""

import asyncio
import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from agent_runtime import v1
from agent_runtime_server.core.errors import ModelError
from agent_runtime_server.llm.base import Channel, Delta, ModelAnswer, ModelRequest, RequestedCall, Sink, Tell


@dataclass(frozen=True)
class Answer:
    """One answer; `holds` lets it wait for `Scripted.go` after its text was streamed."""

    text: str = ""
    calls: tuple[tuple[str, object], ...] = ()
    holds: bool = False
    error: Exception | None = None


class Scripted:
    """A Model that gives its answers in order, and says that it is done when it has none left."""

    def __init__(self) -> None:
        self.requests: list[ModelRequest] = []
        self.held = asyncio.Event()
        self.go = asyncio.Event()
        self.aborted = 0
        self.free = 1000
        self.usage = v1.Usage(model_calls=1)  # of each answer
        self._listeners: list[Callable[[], None]] = []
        self._answers: deque[Answer] = deque()

    def then(self, *answers: Answer | ModelError) -> None:
        """Put answers behind those that are still to come."""
        self._answers += [Answer(error=one) if isinstance(one, Exception) else one for one in answers]

    async def answer(self, request: ModelRequest, sink: Sink | None = None, tell: Tell | None = None) -> ModelAnswer:
        """Give the next answer."""
        self.requests.append(request)
        answer = self._answers.popleft() if self._answers else Answer("done")
        if sink is not None and answer.text:
            sink([Delta(Channel.TEXT, answer.text)])
        if answer.holds:
            await self._hold()
        if answer.error is not None:
            raise answer.error
        calls = tuple(RequestedCall(name, json.dumps(arguments)) for name, arguments in answer.calls)
        usage = v1.Usage()
        usage.CopyFrom(self.usage)
        return ModelAnswer(answer.text, "", calls, usage, "stop", request.model)

    async def _hold(self) -> None:
        self.held.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.aborted += 1
            raise
        finally:
            self.held.clear()

    def room(self, model: str) -> int:
        """Return how many calls may begin now."""
        return self.free

    def on_change(self, changed: Callable[[], None]) -> None:
        """Call `changed` from `come_back`."""
        self._listeners.append(changed)

    def come_back(self) -> None:
        """Let calls through."""
        self.free = 1000
        for listener in self._listeners:
            listener()
