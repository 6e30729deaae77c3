"""Asks each dependency again and again whether it is there, and tells health.

A state changes for the worse after two failures in a row, and back after two successes, so that what comes and goes
does not flap. With a probe each second and 1.5 seconds of patience, an outage is told within 4 seconds even when the
other side just falls silent.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from time import monotonic
from typing import Final, Protocol

import structlog
from google.protobuf.timestamp_pb2 import Timestamp

from agent_runtime import v1
from agent_runtime_server.core.clock import Clock, now
from agent_runtime_server.core.errors import ServiceError
from agent_runtime_server.rpc.health import REQUIRED, Health
from agent_runtime_server.rpc.status import cut

FAILURES_TO_DOWN: Final = 2
SUCCESSES_TO_UP: Final = 2
_SLOW: Final = 0.5  # seconds; slower answers show as DEGRADED
_LONGEST_MESSAGE: Final = 300  # bytes
_NAMES: Final = "authorization|password|passwd|token|api[_-]?key|secret"
_SECRETS: Final = (
    (re.compile(r"(\w+://)[^/@\s]*@"), r"\1***@"),
    (
        re.compile(r"(?i)\b(authorization|password|passwd|token|api[_-]?key|secret)\b(\W+)(bearer |basic )?\S+"),
        r"\1\2***",
    ),
    (re.compile(r"(?i)\b(bearer|basic) \S+"), r"\1 ***"),
    (re.compile(r"\b(sk|pk|key)-[\w-]{6,}"), "***"),
)

Probe = Callable[[], Awaitable[None]]
"""Returns when the dependency answers, raises when it does not."""


class Logger(Protocol):
    """The part of a structlog logger that is used here."""

    def info(self, event: str, /, **fields: object) -> object:
        """Log good news."""
        ...

    def warning(self, event: str, /, **fields: object) -> object:
        """Log bad news."""
        ...


class Prober:
    """Runs the probes and remembers what they found."""

    def __init__(
        self,
        probes: Mapping[str, Probe],
        health: Health,
        *,
        required: frozenset[str] = REQUIRED,
        interval: float = 1.0,
        timeout: float = 1.5,
        clock: Clock = now,
        logger: Logger | None = None,
    ) -> None:
        self._probes = dict(probes)
        self._health = health
        self._interval = interval
        self._timeout = timeout
        self._clock = clock
        self._log = logger or structlog.get_logger(__name__)
        self._found = {name: Findings(name, name in required) for name in probes}
        self._ending = False

    async def run(self) -> None:
        """Probe for ever; the first round starts at once."""
        async with asyncio.TaskGroup() as tasks:
            for name in self._probes:
                tasks.create_task(self._watch(name), name=f"probe {name}")
            try:
                await asyncio.Event().wait()
            finally:  # a group tells its tasks once, and libraries that wait with a timeout can lose that
                self._ending = True

    async def probe_all(self) -> None:
        """Probe everything once."""
        async with asyncio.TaskGroup() as tasks:
            for name in self._probes:
                tasks.create_task(self._probe(name), name=f"probe {name}")

    def dependencies(self) -> list[v1.Dependency]:
        """Return what is known of each dependency, as SystemService tells it."""
        return [found.to_message() for found in self._found.values()]

    async def _watch(self, name: str) -> None:
        while not self._ending:
            started = monotonic()
            await self._probe(name)
            await asyncio.sleep(max(0.0, self._interval - (monotonic() - started)))

    async def _probe(self, name: str) -> None:
        started = monotonic()
        problem = await self._problem(self._probes[name])
        found = self._found[name]
        before = found.state
        found.observe(problem, monotonic() - started, self._clock())
        self._tell(found, before)

    async def _problem(self, probe: Probe) -> str:
        """Return what is wrong in English, empty when nothing is."""
        try:
            async with asyncio.timeout(self._timeout):
                await probe()
        except TimeoutError:
            return f"no answer within {self._timeout:g} s"
        except ServiceError as error:
            return clean(str(error))
        except Exception as error:  # noqa: BLE001 # the text of a foreign error may hold anything
            return f"the probe failed with {type(error).__name__}"
        return ""

    def _tell(self, found: "Findings", before: "v1.DependencyState.ValueType") -> None:
        if found.is_down:
            self._health.set(found.name, serving=False)
        elif not found.message:
            self._health.set(found.name, serving=True)
        if found.is_down and before != v1.DEPENDENCY_STATE_DOWN:
            self._log.warning("dependency_down", dependency=found.name, problem=found.message)
        elif before == v1.DEPENDENCY_STATE_DOWN and not found.is_down:
            self._log.info("dependency_up", dependency=found.name)


class Findings:
    """What the probes of one dependency found."""

    def __init__(self, name: str, required: bool) -> None:
        self.name = name
        self.state: v1.DependencyState.ValueType = v1.DEPENDENCY_STATE_UNSPECIFIED
        self.message = ""
        self._required = required
        self._failures = self._successes = 0
        self._latency = 0.0
        self._time: Timestamp | None = None

    @property
    def is_down(self) -> bool:
        """Whether the dependency failed twice in a row and has not yet been there twice in a row."""
        return self.state == v1.DEPENDENCY_STATE_DOWN

    def observe(self, problem: str, latency: float, time: Timestamp) -> None:
        """Take the outcome of one probe; an empty problem is a success."""
        self.message, self._latency, self._time = problem, latency, time
        self._failures = self._failures + 1 if problem else 0
        self._successes = 0 if problem else self._successes + 1
        if self._failures >= FAILURES_TO_DOWN or (self.is_down and self._successes < SUCCESSES_TO_UP):
            self.state = v1.DEPENDENCY_STATE_DOWN
        elif self._failures or latency > _SLOW:
            self.state = v1.DEPENDENCY_STATE_DEGRADED
        else:
            self.state = v1.DEPENDENCY_STATE_UP

    def to_message(self) -> v1.Dependency:
        """Return the findings as the contract tells them."""
        dependency = v1.Dependency(
            name=self.name, state=self.state, required=self._required, check_time=self._time, message=self.message
        )
        dependency.latency.FromMicroseconds(int(self._latency * 1_000_000))
        return dependency


def clean(text: str) -> str:
    """Return the text without what looks like a credential, and short."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return cut(text, _LONGEST_MESSAGE)
