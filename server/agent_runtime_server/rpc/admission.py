"""Refuses new turns while this replica has enough to do, so that those that run keep their pace.

One tenant that fills it does not keep the others out: whoever runs less than their share of the turns begins some more.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from agent_runtime import v1
from agent_runtime_server.core.errors import CallerError
from agent_runtime_server.core.observe import Nobody, Observer

_RETRY_SECONDS: Final = (1.0, 3.0)
_KEPT: Final = 0.8  # of a lag, each time that it is measured anew
_BEYOND: Final = 1.25  # of the turns that are enough, for those who run less than their share


@dataclass(frozen=True, slots=True)
class Capacity:
    """How much is enough; 0 is no bound."""

    running_turns: int = 0
    queued_commits: int = 0
    lag_seconds: float = 0


@dataclass(slots=True)
class Admission:
    """Looks at what this replica does before it takes on more."""

    capacity: Capacity = Capacity()
    running: Callable[[], int] = lambda: 0
    queued: Callable[[], int] = lambda: 0
    tenants: Callable[[], Mapping[str, int]] = dict  # those with running turns, and how many
    weights: Mapping[str, int] = field(default_factory=dict)
    observer: Observer = field(default_factory=Nobody)
    _lag: float = 0.0
    _coming: Counter[str] = field(default_factory=Counter)  # turns let in that do not run yet, by tenant

    def late(self, seconds: float) -> None:
        """Note how late the event loop is; what was measured before fades within a few measurements."""
        self._lag = max(seconds, self._lag * _KEPT)

    @contextmanager
    def place(self, tenant: str) -> Iterator[None]:
        """Count a turn while the block brings it to run; raises QUOTA_EXCEEDED while there is enough to do."""
        self._check(tenant)
        self._coming[tenant] += 1
        try:
            yield
        finally:
            self._coming[tenant] -= 1
            if not self._coming[tenant]:
                del self._coming[tenant]

    def _check(self, tenant: str) -> None:
        bounds = self.capacity
        running = self.running() + self._coming.total()
        for name, what, most, now in (
            ("running_turns", "turns run here", bounds.running_turns, running),
            ("queued_commits", "commits wait here", bounds.queued_commits, self.queued()),
            ("lag_seconds", "s is how late the event loop is here", bounds.lag_seconds, self._lag),
        ):
            if most and now >= most and not (name == "running_turns" and self._has_a_share_left(tenant, now)):
                self.observer.quota_refused(f"capacity.{name}")
                raise _full(name, f"{now:.3g} {what}, and {most:g} are enough", most)

    def _has_a_share_left(self, tenant: str, running: float) -> bool:
        """Tell whether a tenant may begin a turn although others have taken all there are."""
        most, tenants = self.capacity.running_turns, self._coming + Counter(self.tenants())
        weights = sum(self.weights.get(one, 1) for one in {tenant, *tenants})
        share = most * self.weights.get(tenant, 1) / weights
        return tenants[tenant] < share and running < most * _BEYOND


def _full(name: str, why: str, most: float) -> CallerError:
    delay = random.uniform(*_RETRY_SECONDS)  # noqa: S311 - so that not all come back at once
    return CallerError(
        v1.ERROR_REASON_QUOTA_EXCEEDED,
        f"{why}; try again in {delay:.1f} s",
        metadata={"quota": f"capacity.{name}", "subject": "replica", "limit": f"{most:g}"},
        retry_delay=timedelta(seconds=delay),
    )
