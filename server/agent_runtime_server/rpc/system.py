"""SystemService: facts about the replica that answers."""

from collections.abc import Callable, Sequence
from datetime import date
from typing import Final

from agent_runtime import v1
from agent_runtime_server.core.circuit import Phase
from agent_runtime_server.core.errors import invalid
from agent_runtime_server.core.principal import Role
from agent_runtime_server.engine.ledger import Ledger
from agent_runtime_server.engine.turn import add_usage
from agent_runtime_server.llm.breaker import Breaker
from agent_runtime_server.rpc.replica import PROTOCOL_VERSION, Replica
from agent_runtime_server.rpc.service import Call

_MOST_DAYS: Final = 31
_MOST_ROWS: Final = 10_000


class SystemService:
    """Version, limits and dependency details."""

    def __init__(
        self,
        replica: Replica,
        dependencies: Callable[[], Sequence[v1.Dependency]],
        breakers: Callable[[], Sequence[Breaker]],
        ledger: Ledger,
    ) -> None:
        self._replica = replica
        self._dependencies = dependencies
        self._breakers = breakers
        self._ledger = ledger

    async def get_server_status(self, _request: v1.GetServerStatusRequest, _call: Call) -> v1.GetServerStatusResponse:
        """Return the status of this replica."""
        return v1.GetServerStatusResponse(
            version=self._replica.version,
            replica_id=self._replica.replica_id,
            min_protocol_version=PROTOCOL_VERSION,
            max_protocol_version=PROTOCOL_VERSION,
            draining=self._replica.draining,
            dependencies=self._dependencies(),
            open_streams=self._replica.streams,
            circuit_breakers=[_circuit(breaker) for breaker in self._breakers()],
        )

    async def get_usage(self, request: v1.GetUsageRequest, call: Call) -> v1.GetUsageResponse:
        """Return what was spent by day and subject; of others only who may look after the tenant is told."""
        last = _day(request.last_day, "last_day") if request.last_day else self._ledger.today()
        first = _day(request.first_day, "first_day") if request.first_day else last
        if not 0 <= (last - first).days < _MOST_DAYS:
            raise invalid("first_day", "usage.days", f"ask for 1 to {_MOST_DAYS} days that end with last_day")
        who = call.principal
        subject = None if who.is_one_of((Role.OPERATOR,)) else who.subject
        found = await self._ledger.store.days(who.tenant, first, last, subject, _MOST_ROWS)
        response = v1.GetUsageResponse()
        for row in found:
            response.days.add(day=row.day.isoformat(), subject=row.subject, usage=row.usage)
            add_usage(response.total, row.usage)
        return response


def _day(text: str, field: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise invalid(field, "usage.day", "write the day as 2026-01-31") from None


_STATES = {
    Phase.CLOSED: v1.CIRCUIT_STATE_CLOSED,
    Phase.OPEN: v1.CIRCUIT_STATE_OPEN,
    Phase.HALF_OPEN: v1.CIRCUIT_STATE_HALF_OPEN,
}


def _circuit(breaker: Breaker) -> v1.CircuitBreaker:
    circuit = breaker.circuit
    made = v1.CircuitBreaker(
        endpoint=breaker.endpoint,
        model=breaker.model,
        state=_STATES[circuit.phase],
        failures=circuit.failures,
        shared=breaker.shared,
    )
    if circuit.phase is Phase.OPEN:
        made.retry_time.FromMilliseconds(int(breaker.retry_time * 1000))
    return made
