"""What happened, for whoever counts it: the core names it, telemetry implements it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from agent_runtime import v1
from agent_runtime_server.core.circuit import Phase


@dataclass(frozen=True, slots=True)
class Batch:
    """One group commit, and what waits for the next one."""

    appends: int
    size: int  # bytes of its events
    seconds: float
    waited: float  # seconds that its oldest append had waited
    left: int
    left_size: int


class Observer(Protocol):
    """Told of what is worth counting; must be quick and must not raise."""

    def batch_committed(self, batch: Batch) -> None:
        """One group commit is done."""
        ...

    def connection_acquired(self, pool: str, seconds: float) -> None:
        """A connection of a pool was had after so long."""
        ...

    def read_served(self, server: str) -> None:
        """A read that need not go to the primary was answered by this server."""
        ...

    def quota_refused(self, quota: str) -> None:
        """A request or a message was refused because this quota is used up."""
        ...

    def watch(self, name: str, text: str, value: Callable[[], float], **labels: str) -> None:
        """Show what a function returns whenever somebody looks."""
        ...


class ModelObserver(Protocol):
    """Told of calls to models; must be quick and must not raise."""

    def model_called(self, model: str, status: str, seconds: float) -> None:
        """A call ended: `ok`, `cancelled`, or what went wrong."""
        ...

    def model_retried(self, model: str, why: str) -> None:
        """A call is made once more."""
        ...

    def tokens_used(self, model: str, usage: v1.Usage, tenant: str) -> None:
        """An answer was read, and this is what it took."""
        ...

    def turns_worked(self, tenant: str, usage: v1.Usage) -> None:
        """Turns took so many more tool calls and so much more time."""
        ...

    def model_replaced(self, model: str, by: str) -> None:
        """Another model is asked instead."""
        ...

    def circuit_changed(self, endpoint: str, model: str, phase: Phase) -> None:
        """A circuit opened, half opened or closed."""
        ...

    def turn_parked(self) -> None:
        """A turn waits for a model."""
        ...

    def turn_resumed(self, seconds: float) -> None:
        """A turn that was parked for so long goes on."""
        ...


class Nobody:
    """Counts nothing."""

    def batch_committed(self, batch: Batch) -> None:
        """Ignore it."""

    def connection_acquired(self, pool: str, seconds: float) -> None:
        """Ignore it."""

    def read_served(self, server: str) -> None:
        """Ignore it."""

    def quota_refused(self, quota: str) -> None:
        """Ignore it."""

    def watch(self, name: str, text: str, value: Callable[[], float], **labels: str) -> None:
        """Ignore it."""

    def model_called(self, model: str, status: str, seconds: float) -> None:
        """Ignore it."""

    def model_retried(self, model: str, why: str) -> None:
        """Ignore it."""

    def tokens_used(self, model: str, usage: v1.Usage, tenant: str) -> None:
        """Ignore it."""

    def turns_worked(self, tenant: str, usage: v1.Usage) -> None:
        """Ignore it."""

    def model_replaced(self, model: str, by: str) -> None:
        """Ignore it."""

    def circuit_changed(self, endpoint: str, model: str, phase: Phase) -> None:
        """Ignore it."""

    def turn_parked(self) -> None:
        """Ignore it."""

    def turn_resumed(self, seconds: float) -> None:
        """Ignore it."""
