"""SystemService: facts about the replica that answers."""

from collections.abc import Callable, Sequence

from agent_runtime import v1
from agent_runtime_server.core.circuit import Phase
from agent_runtime_server.llm.breaker import Breaker
from agent_runtime_server.rpc.replica import PROTOCOL_VERSION, Replica
from agent_runtime_server.rpc.service import Call


class SystemService:
    """Version, limits and dependency details."""

    def __init__(
        self,
        replica: Replica,
        dependencies: Callable[[], Sequence[v1.Dependency]],
        breakers: Callable[[], Sequence[Breaker]],
    ) -> None:
        self._replica = replica
        self._dependencies = dependencies
        self._breakers = breakers

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
