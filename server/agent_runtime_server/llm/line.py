"""One model at one endpoint, with what is known of it: its circuit, its retries, and the quiet it asked for."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from time import monotonic
from typing import Final

from agent_runtime_server.core.errors import ModelError, ModelUnavailable
from agent_runtime_server.core.observe import ModelObserver
from agent_runtime_server.llm.allowance import Allowance
from agent_runtime_server.llm.base import Delay, Delta, Endpoint, Hold, ModelAnswer, ModelRequest, Sink, Tell
from agent_runtime_server.llm.breaker import Breaker, Permit
from agent_runtime_server.llm.profile import Profile

_NOT_THE_ENDPOINTS_FAULT: Final = frozenset({"http_408", "http_409", "http_425", "http_429"})
_SPREAD_SECONDS: Final = 2.0  # over which those who waited for the same moment come back


class Shown:
    """Passes an answer on, and remembers whether any of it was."""

    __slots__ = ("_sink", "begun", "first")

    def __init__(self, sink: Sink | None) -> None:
        self._sink = sink
        self.begun = False
        self.first: tuple[Breaker, Permit] | None = None  # whom to tell when it begins

    def __call__(self, deltas: Sequence[Delta]) -> None:
        """Take what one read brought."""
        if self.first is not None:
            breaker, permit = self.first
            self.first = None
            breaker.began(permit)
        if self._sink is not None:
            self.begun = True
            self._sink(deltas)


@dataclass(slots=True)
class Line:
    """Makes single calls, and counts them."""

    endpoint: Endpoint
    profile: Profile
    model: str
    breaker: Breaker
    observer: ModelObserver
    allowance: Allowance = field(default_factory=lambda: Allowance(monotonic))
    quiet_until: float = 0

    def room(self) -> int:
        """Return how many calls may begin now."""
        return 0 if monotonic() < self.quiet_until else self.breaker.room()

    async def call(self, request: ModelRequest, shown: Shown) -> ModelAnswer:
        """Make one call, if the circuit lets it through."""
        permit = await self.breaker.admit()
        self.allowance.earn()
        shown.first = (self.breaker, permit)
        started, status = monotonic(), "cancelled"
        try:
            answer = await self.endpoint.answer(request, shown)
        except ModelError as error:
            status = error.kind
            await self._failed(permit, error)
            raise
        except BaseException:
            self.breaker.gave_up(permit)
            raise
        else:
            status = "ok"
            if not permit.trial or shown.first is not None:
                self.breaker.succeeded(permit)
            return answer
        finally:
            self.observer.model_called(self.model, status, monotonic() - started)

    async def _failed(self, permit: Permit, error: ModelError) -> None:
        if error.retry_delay is not None:
            self.quiet_until = max(self.quiet_until, monotonic() + error.retry_delay.total_seconds())
        if not isinstance(error, ModelUnavailable):
            self.breaker.succeeded(permit)  # it refuses this request, so it is there
        elif error.kind in _NOT_THE_ENDPOINTS_FAULT:
            self.breaker.gave_up(permit)
        else:
            await self.breaker.failed(permit)

    async def quiet(self, patience: float, call_number: int, tell: Tell | None) -> None:
        """Wait while the endpoint has asked for quiet; raise ModelUnavailable when that takes too long."""
        while (left := self.quiet_until - monotonic()) > 0:
            if left > patience:
                raise throttled(self.model, left)
            wait = left + random.uniform(0, _SPREAD_SECONDS)  # noqa: S311 - so that not all come back at once
            if tell is not None:
                reason = f"{self.model} asked for a pause"
                tell(Delay(Hold.THROTTLED, reason, wait, self.model, call_number))
            patience -= wait
            await asyncio.sleep(wait)


def throttled(model: str, seconds: float) -> ModelUnavailable:
    """Return the error of a call that is not made, because the endpoint asked for quiet."""
    delay = timedelta(seconds=seconds)
    return ModelUnavailable(f"{model} asked for a pause of {seconds:.0f} s", kind="throttled", retry_delay=delay)
