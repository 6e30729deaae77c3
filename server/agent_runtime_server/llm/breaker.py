"""The circuit breaker of one model at one endpoint: the shared circuit as this replica knows it.

An answer takes seconds, so one that ends well may have begun before others failed, and says nothing of now: while calls
fail, successes count as soon as the endpoint has begun an answer since.

While the circuit is closed a call costs no round trip: it is let through on what is known here, successes are reported
together every second, and only failures at once. Without Redis the replica goes on with the circuit it knew last.
"""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import structlog

from agent_runtime_server.core.circuit import Admit, Answered, Circuit, Look, Operation, Phase, Report, Rules
from agent_runtime_server.core.errors import ModelError, ModelUnavailable, StoreUnavailable
from agent_runtime_server.core.ids import new_id
from agent_runtime_server.stores.shared import Circuits

_log = structlog.get_logger(__name__)

_PLENTY: Final = 1000

Changed = Callable[["Breaker"], None]


class CircuitOpen(ModelUnavailable):
    """The call is not made, because others have failed."""


@dataclass(frozen=True, slots=True)
class Permit:
    """A call that is let through; `trial` names one of a half-open circuit."""

    epoch: int
    trial: str = ""
    failures: int = 0  # seen here before it was let through


class Breaker:
    """Lets calls through or turns them away; `keep` must be called every second, and when a probe is due."""

    def __init__(
        self,
        endpoint: str,
        model: str,
        rules: Rules,
        circuits: Circuits | None,
        changed: Changed,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.endpoint = endpoint
        self.model = model
        self.circuit = Circuit()
        self._lost = False  # whether Redis was away when it was asked last
        self._rules = rules
        self._circuits = circuits
        self._changed = changed
        self._clock = clock
        self._ahead = 0  # milliseconds by which the shared clock is ahead of ours
        self._good = 0  # successes not reported yet
        self._failures = 0  # seen here
        self._heard = True  # whether an answer has begun since the last of them
        self._late: list[Report] = []

    async def admit(self) -> Permit:
        """Return a permit; raise CircuitOpen when the call must not be made."""
        circuit = self.circuit
        if circuit.phase is Phase.CLOSED:
            return Permit(circuit.epoch, "", self._failures)
        if circuit.phase is Phase.HALF_OPEN or self._now() >= circuit.until:
            trial = new_id("trial")
            if await self._step(Admit(trial)):
                return Permit(self.circuit.epoch, trial if trial in self.circuit.trials else "", self._failures)
        raise CircuitOpen(f"{self.model} has failed and is left alone for a while", kind="circuit_open")

    def room(self) -> int:
        """Return how many calls would be let through now."""
        if self.circuit.phase is Phase.CLOSED:
            return _PLENTY
        if self.circuit.phase is Phase.HALF_OPEN:
            return self.circuit.room(self._rules)
        return int(self._now() >= self.circuit.until)

    @property
    def probe_in(self) -> float | None:
        """Seconds until an open circuit may be probed, None while it is not open."""
        if self.circuit.phase is not Phase.OPEN:
            return None
        return max(0.0, (self.circuit.probe_at - self._now()) / 1000)

    def began(self, permit: Permit) -> None:
        """Note that an answer begins."""
        self._heard = True
        if permit.trial:
            self.succeeded(permit)

    def succeeded(self, permit: Permit) -> None:
        """Note that a call works; it is reported in time."""
        if permit.trial:
            self._report_soon(Report(permit.epoch, permit.trial, good=1))
        elif permit.epoch == self.circuit.epoch:
            self._good += 1
            self._heard = self._heard or permit.failures == self._failures

    def gave_up(self, permit: Permit) -> None:
        """Note that nobody waits for a call any more."""
        if permit.trial:
            self._report_soon(Report(permit.epoch, permit.trial))

    async def failed(self, permit: Permit) -> None:
        """Report a call that failed."""
        if permit.epoch == self.circuit.epoch:
            good = self._taken_good()
            self._failures, self._heard = self._failures + 1, False
            await self._step(Report(permit.epoch, permit.trial, good=good, bad=1))

    def _report_soon(self, report: Report) -> None:
        self._late.append(report)
        self._changed(self)

    def _taken_good(self) -> int:
        if self.circuit.failures and not self._heard:
            return 0
        good, self._good = self._good, 0
        return good

    async def keep(self, probe: Callable[[], Awaitable[None]]) -> None:
        """Report what was not, learn what others found, and probe when it is this replica's turn."""
        late, self._late = self._late, []
        for report in late:
            await self._step(report, anew=True)
        if good := self._taken_good():
            await self._step(Report(self.circuit.epoch, good=good), anew=True)
        if await self._step(Look(), anew=True):
            epoch = self.circuit.epoch
            try:
                await probe()
            except ModelError as error:
                _log.info("circuit_probe_failed", endpoint=self.endpoint, model=self.model, error=str(error))
            else:
                await self._step(Answered(epoch))

    async def _step(self, operation: Operation, *, anew: bool = False) -> bool:
        """Take one step for all replicas, or here alone; after Redis was lost only with `anew` is it tried again."""
        before = self.circuit.phase
        answer = None if self._lost and not anew else await self._shared_step(operation)
        if answer is None:
            answer = self.circuit.apply(self._rules, operation, self._now())
        if self.circuit.phase is not before:
            self._good = 0
            self._tell()
        return answer

    async def _shared_step(self, operation: Operation) -> bool | None:
        if self._circuits is None:
            return None
        try:
            stepped = await self._circuits.apply(f"{self.endpoint}|{self.model}", operation)
        except StoreUnavailable:
            self._lost = True
            return None
        self._lost = False
        self.circuit = stepped.circuit
        self._ahead = stepped.now - int(self._clock() * 1000)
        return stepped.answer

    def _now(self) -> int:
        return int(self._clock() * 1000) + self._ahead

    @property
    def shared(self) -> bool:
        """Whether all replicas go by this circuit."""
        return self._circuits is not None and not self._lost

    @property
    def retry_time(self) -> float:
        """When an open circuit lets calls through at the latest, as seconds of our own clock."""
        return (self.circuit.until - self._ahead) / 1000

    def _tell(self) -> None:
        circuit = self.circuit
        level = _log.warning if circuit.phase is Phase.OPEN else _log.info
        level(f"circuit_{circuit.phase}", endpoint=self.endpoint, model=self.model, failures=circuit.failures)
        self._changed(self)
