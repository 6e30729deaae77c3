"""What replicas share beside sessions: keys, circuits, buckets, and what was spent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Protocol

from agent_runtime import v1
from agent_runtime_server.core.buckets import Draw, Drawn
from agent_runtime_server.core.circuit import Circuit, Operation
from agent_runtime_server.core.principal import Role


@dataclass(frozen=True, slots=True)
class KeyRow:
    """An API key as it is kept: not the key itself, but its digest and whose it is."""

    key_id: str
    digest: bytes
    tenant: str
    subject: str
    display_name: str
    roles: frozenset[Role]
    create_time: datetime | None = None
    expire_time: datetime | None = None
    revoke_time: datetime | None = None

    def is_good(self, now: float) -> bool:
        """Tell whether the key opens anything at this time."""
        return self.revoke_time is None and (self.expire_time is None or self.expire_time.timestamp() > now)


class KeyStore(Protocol):
    """API keys, as far as a server asks for them."""

    async def get(self, key_id: str) -> KeyRow | None:
        """Return one key, revoked or not, or None."""
        ...

    async def good(self, key_ids: Sequence[str]) -> Mapping[str, datetime | None]:
        """Return those of these keys that exist and are neither revoked nor expired, and when they will be."""
        ...


@dataclass(frozen=True, slots=True)
class Stepped:
    """The answer to a step of a circuit: what was asked, the circuit after it, and the moment in milliseconds."""

    answer: bool
    circuit: Circuit
    now: int


class Circuits(Protocol):
    """Circuit breakers that all replicas share."""

    async def apply(self, name: str, operation: Operation) -> Stepped:
        """Take one step of a circuit; raises StoreUnavailable."""
        ...


class BucketStore(Protocol):
    """Token buckets that all replicas share."""

    async def take(self, draws: Sequence[Draw]) -> Drawn:
        """Draw from all of these buckets or from none; raises StoreUnavailable."""
        ...


@dataclass(frozen=True, slots=True)
class Spender:
    """Who spends: a user of a tenant, or the tenant itself without a subject."""

    tenant: str
    subject: str


@dataclass(frozen=True, slots=True)
class DayUsage:
    """What somebody spent on a day."""

    day: date
    subject: str
    usage: v1.Usage


class UsageStore(Protocol):
    """What was asked of models, by day."""

    async def add(self, counted: Mapping[tuple[Spender, date], v1.Usage]) -> None:
        """Add what was counted."""
        ...

    async def totals(self, day: date, spenders: Sequence[Spender]) -> Mapping[Spender, v1.Usage]:
        """Return what these have spent on a day; a tenant's own total stands under no subject."""
        ...

    async def days(self, tenant: str, first: date, last: date, subject: str | None, limit: int) -> Sequence[DayUsage]:
        """Return what was spent on which day and by whom, latest first; by all subjects unless one is named."""
        ...
