"""A model that goes on when endpoints fail: retries, circuit breakers, and other models in order.

A call is made once more only while nothing of its answer was shown, only while the endpoint's allowance of retries
lasts, and never longer than its patience; then the next model that can take the request is asked. What is left when
none can is for the turn to wait out.
"""

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, stop_before_delay
from tenacity.stop import stop_base

from agent_runtime_server.core.circuit import Phase, Rules
from agent_runtime_server.core.errors import ModelBrokeOff, ModelError, ModelRejected, ModelUnavailable
from agent_runtime_server.core.observe import ModelObserver, Nobody
from agent_runtime_server.llm.base import Delay, Endpoint, Hold, ModelAnswer, ModelRequest, Sink, Tell
from agent_runtime_server.llm.breaker import Breaker, CircuitOpen
from agent_runtime_server.llm.line import Line, Shown
from agent_runtime_server.llm.messages import size
from agent_runtime_server.llm.profile import Profile
from agent_runtime_server.llm.turnstile import Turnstile
from agent_runtime_server.stores.shared import Circuits

_PLAIN: Final = Profile()
_LETTERS: Final = 4000  # of a request that weigh as much as a call does at least
_HEAVIEST: Final = 64
_KEEP_SECONDS: Final = 1.0
_SOON_SECONDS: Final = 0.25  # when one that is due is being made, or is for another replica to make
_PATIENCE_WITH_OTHERS: Final = 5.0  # seconds to wait for a model while there is another one to ask


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a model is waited for."""

    calls: int = 5  # of one model in a step
    seconds: float = 30  # of waiting between them
    first_wait: float = 0.5  # the longest before the second call; doubles with each
    longest_wait: float = 15


@dataclass(frozen=True, slots=True)
class Choice:
    """An endpoint in the order of preference; without a model it is asked for the one that is wanted."""

    endpoint: Endpoint
    profile: Profile = _PLAIN
    model: str = ""


class Resilient:
    """The Model over endpoints in order of preference; `run` must run while it is used."""

    def __init__(
        self,
        choices: Sequence[Choice],
        *,
        rules: Rules | None = None,
        circuits: Circuits | None = None,
        observer: ModelObserver | None = None,
        patience: Patience | None = None,
        turnstile: Turnstile | None = None,
    ) -> None:
        self._choices = choices
        self._rules = rules or Rules()
        self._circuits = circuits
        self._observer = observer or Nobody()
        self._patience = patience or Patience()
        self._turnstile = turnstile or Turnstile()
        self._lines: dict[tuple[int, str], Line] = {}
        self._phases: dict[Breaker, Phase] = {}
        self._listeners: list[Callable[[], None]] = []
        self._wake = asyncio.Event()

    async def answer(self, request: ModelRequest, sink: Sink | None = None, tell: Tell | None = None) -> ModelAnswer:
        """Return the whole answer; raise ModelBrokeOff when `sink` was told of one that will not be ended."""
        shown = Shown(sink)
        failures: list[ModelError] = []
        lines = self._able(request)
        for place, line in enumerate(lines):
            if place:
                self._replaced(lines[place - 1], line, failures[-1], tell)
            patience = self._patience
            if any(other.room() for other in lines[place + 1 :]):
                patience = replace(patience, seconds=min(patience.seconds, _PATIENCE_WITH_OTHERS))
            try:
                asked = request if request.model == line.model else replace(request, model=line.model)
                return await self._ask(line, asked, shown, tell, patience)
            except ModelError as error:
                if isinstance(error, ModelRejected) and (shown.begun or not error.elsewhere):
                    raise
                if shown.begun:
                    raise _broken_off(error) from error
                failures.append(error)
        raise _worst(failures)

    async def _ask(
        self, line: Line, request: ModelRequest, shown: Shown, tell: Tell | None, patience: Patience
    ) -> ModelAnswer:
        """Ask one model, as often as it makes sense."""

        async def call(number: int) -> ModelAnswer:
            await line.quiet(patience.seconds, number, tell)
            async with self._turnstile.place(request.tenant, lambda: _cost(request), lambda: _queued(line, tell)):
                return await line.call(request, shown)

        def once_more(state: RetryCallState) -> None:
            self._retried(line, state, tell)

        try:
            return await call(1)
        except ModelError as error:
            failure = error
        retrying = AsyncRetrying(
            retry=retry_if_exception(lambda error: _worth_another_call(error) and not shown.begun),
            stop=stop_after_attempt(patience.calls) | stop_before_delay(patience.seconds) | _Spent(line),
            wait=lambda state: _wait(state, patience),
            before_sleep=once_more,
            sleep=asyncio.sleep,
            reraise=True,
        )
        async for attempt in retrying:  # whose first one has been: most calls need no second
            with attempt:
                if attempt.retry_state.attempt_number == 1:
                    raise failure
                return await call(attempt.retry_state.attempt_number)
        raise AssertionError("the last attempt returns or raises")

    def _retried(self, line: Line, state: RetryCallState, tell: Tell | None) -> None:
        error = _error(state)
        self._observer.model_retried(line.model, error.kind)
        if tell is not None:
            tell(Delay(Hold.RETRY, str(error), state.upcoming_sleep, line.model, state.attempt_number + 1))

    def _replaced(self, line: Line, by: Line, error: ModelError, tell: Tell | None) -> None:
        self._observer.model_replaced(line.model, by.model)
        if tell is not None:
            tell(Delay(Hold.FALLBACK, str(error), 0, by.model, 1))

    def _able(self, request: ModelRequest) -> list[Line]:
        """Return the lines that can take a request, as far as is declared; the first one when none is said to."""
        lines = list(self._lines_of(request.model))
        return [line for line in lines if line.profile.takes(request)] or lines[:1]

    def _lines_of(self, model: str) -> Iterator[Line]:
        for place, choice in enumerate(self._choices):
            yield self._line(place, choice, choice.model or model)

    def _line(self, place: int, choice: Choice, model: str) -> Line:
        line = self._lines.get((place, model))
        if line is None:
            breaker = Breaker(choice.endpoint.address, model, self._rules, self._circuits, self._changed)
            line = Line(choice.endpoint, choice.profile, model, breaker, self._observer)
            self._lines[place, model] = line
        return line

    def room(self, model: str) -> int:
        """Return how many calls of a model may begin now without being turned away at once."""
        return max(line.room() for line in self._lines_of(model))

    def on_change(self, changed: Callable[[], None]) -> None:
        """Call `changed` when `room` may have grown."""
        self._listeners.append(changed)

    @property
    def waiting(self) -> int:
        """Number of calls that wait for their turn."""
        return self._turnstile.waiting

    @property
    def breakers(self) -> list[Breaker]:
        """The circuit breakers in use, in order of preference."""
        return [line.breaker for _, line in sorted(self._lines.items(), key=lambda item: item[0])]

    def _changed(self, breaker: Breaker) -> None:
        phase = breaker.circuit.phase
        if self._phases.get(breaker, Phase.CLOSED) is not phase:
            self._phases[breaker] = phase
            self._observer.circuit_changed(breaker.endpoint, breaker.model, phase)
        self._wake.set()
        for listener in self._listeners:
            listener()

    async def probe(self) -> None:
        """Return when the preferred endpoint answers and is called; raise ModelUnavailable when not.

        While it is left alone it is left alone here too: the circuit's own probes, one for all replicas, find it back.
        """
        for (place, _), line in self._lines.items():
            if place == 0 and line.breaker.circuit.phase is Phase.OPEN:
                raise ModelUnavailable(f"calls of {line.model} have failed", kind="circuit_open")
        await self._choices[0].endpoint.probe()

    async def run(self) -> None:
        """Keep the circuits until cancelled."""
        keeping: set[Breaker] = set()

        async def keep(line: Line) -> None:
            try:
                await line.breaker.keep(line.endpoint.probe)
            finally:
                keeping.discard(line.breaker)

        async with asyncio.TaskGroup() as tasks:
            while True:
                for line in self._lines.values():
                    if line.breaker not in keeping:
                        keeping.add(line.breaker)
                        tasks.create_task(keep(line), name=f"circuit of {line.model}")
                await self._pause()

    async def _pause(self) -> None:
        """Wait a second, or less when something is to be reported or a probe is due before."""
        due = [wait for line in self._lines.values() if (wait := line.breaker.probe_in) is not None]
        try:
            async with asyncio.timeout(min([_KEEP_SECONDS, *(max(wait, _SOON_SECONDS) for wait in due)])):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()
        for listener in self._listeners:
            listener()


class _Spent(stop_base):
    """Stops when the allowance of retries is used up; asked last, for asking takes one."""

    def __init__(self, line: Line) -> None:
        self._line = line

    def __call__(self, retry_state: RetryCallState) -> bool:  # noqa: ARG002 - every stop is asked so
        return not self._line.allowance.spend()


def _cost(request: ModelRequest) -> int:
    """Return what a call weighs against others that wait: by the length of what is asked, within bounds."""
    return min(_HEAVIEST, 1 + size(request.messages) // _LETTERS)


def _queued(line: Line, tell: Tell | None) -> None:
    if tell is not None:
        tell(Delay(Hold.THROTTLED, "as many calls as may be made at a time are under way", 0, line.model, 1))


def _worth_another_call(error: BaseException) -> bool:
    waits_for_others = isinstance(error, CircuitOpen) or (isinstance(error, ModelError) and error.kind == "throttled")
    return isinstance(error, ModelUnavailable) and not waits_for_others


def _error(state: RetryCallState) -> ModelError:
    error = state.outcome.exception() if state.outcome is not None else None
    assert isinstance(error, ModelError), "only calls that failed so are made once more"
    return error


def _wait(state: RetryCallState, patience: Patience) -> float:
    """Return the wait before the next call: what the endpoint asked for, else exponential with full jitter."""
    most = min(patience.longest_wait, patience.first_wait * 2 ** (state.attempt_number - 1))
    asked = _error(state).retry_delay
    jitter = random.uniform(0, most)  # noqa: S311 - spreads load, guards nothing
    return jitter if asked is None else asked.total_seconds() + jitter


def _broken_off(error: ModelError) -> ModelBrokeOff:
    return ModelBrokeOff(str(error), kind=error.kind, retry_delay=error.retry_delay)


def _worst(failures: Sequence[ModelError]) -> ModelError:
    """Return the failure to go by when every model failed: one that waiting may help, the soonest, if there is one."""
    unavailable = [error for error in failures if isinstance(error, ModelUnavailable)]
    if not unavailable:
        return failures[0]
    told = next((error for error in unavailable if not isinstance(error, CircuitOpen)), unavailable[0])
    waits = [error.retry_delay for error in unavailable]
    soonest = None if None in waits else min(wait for wait in waits if wait is not None)
    return ModelUnavailable(str(told), kind=told.kind, retry_delay=soonest)
