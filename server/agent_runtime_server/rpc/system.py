"""SystemService: facts about the replica that answers."""

from collections.abc import Callable, Sequence

from agent_runtime import v1
from agent_runtime_server.rpc.replica import PROTOCOL_VERSION, Replica
from agent_runtime_server.rpc.service import Call


class SystemService:
    """Version, limits and dependency details."""

    def __init__(self, replica: Replica, dependencies: Callable[[], Sequence[v1.Dependency]]) -> None:
        self._replica = replica
        self._dependencies = dependencies

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
        )
