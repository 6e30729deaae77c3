"""What happened, for whoever counts it: the core names it, telemetry implements it."""

from typing import Protocol


class Observer(Protocol):
    """Told of what is worth counting; must be quick and must not raise."""

    def batch_committed(self, appends: int, seconds: float, left: int) -> None:
        """One group commit wrote `appends` appends in `seconds`; `left` wait for the next."""
        ...


class Nobody:
    """Counts nothing."""

    def batch_committed(self, appends: int, seconds: float, left: int) -> None:
        """Ignore it."""
