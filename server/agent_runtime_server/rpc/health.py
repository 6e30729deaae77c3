"""grpc.health.v1: is this replica fit to serve, and what does it depend on.

Names: "", each service's full name, `dependency.NAME`, `liveness`. Only a required dependency or draining makes ""
and the services NOT_SERVING; the other dependencies tell their own state alone. `liveness` is SERVING as long as this
process answers at all: nothing that a restart would not mend makes an orchestrator restart it.

Written here because the stock servicer writes to watchers while it holds the lock that setting a state needs, and its
watch is no generator, which tracing interceptors expect.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING, Any, Final

import grpc.aio
from grpc_health.v1 import health_pb2

from agent_runtime_server.core.errors import ServiceError
from agent_runtime_server.rpc.service import BadFrame, Incoming, only, parser
from agent_runtime_server.rpc.status import end

SERVICE: Final = "grpc.health.v1.Health"
DEPENDENCIES: Final = ("postgres", "redis", "llm", "background")
REQUIRED: Final = frozenset({"postgres"})
PREFIX: Final = "dependency."
LIVENESS: Final = "liveness"
_LONGEST_REQUEST: Final = 4096

_Response = health_pb2.HealthCheckResponse

if TYPE_CHECKING:
    AnyContext = grpc.aio.ServicerContext[Any, Any]


class Health:
    """The states of this replica, told to whoever checks or watches."""

    def __init__(
        self,
        services: Iterable[str],
        *,
        dependencies: Iterable[str] = DEPENDENCIES,
        required: frozenset[str] = REQUIRED,
    ) -> None:
        """Start with all serving, but for what depends on a required dependency: that is told by its first probe."""
        self._services = ("", *services)
        self._dependencies = {name: name not in required for name in dependencies}
        self._required = required & self._dependencies.keys()
        self._draining = False
        self._ended = False
        self._changed = asyncio.Event()

    def set(self, name: str, serving: bool) -> None:
        """Set the state of `dependency.NAME`."""
        dependency = name.removeprefix(PREFIX)
        if dependency not in self._dependencies:
            raise KeyError(name)
        if self._dependencies[dependency] != serving:
            self._dependencies[dependency] = serving
            self._notify()

    def draining(self) -> None:
        """Make "" and every service NOT_SERVING for good."""
        self._draining = True
        self._notify()

    @property
    def serving(self) -> bool:
        """Whether "" and the services are SERVING."""
        return not self._draining and all(self._dependencies[name] for name in self._required)

    def state(self, name: str) -> bool | None:
        """Return whether a name is SERVING; None when there is no such name."""
        if name in self._services:
            return self.serving
        if name == LIVENESS:
            return True
        if name.startswith(PREFIX):
            return self._dependencies.get(name.removeprefix(PREFIX))
        return None

    def handler(self) -> grpc.GenericRpcHandler:
        """Return the handler of grpc.health.v1.Health."""
        parse, serialise = parser(health_pb2.HealthCheckRequest, _LONGEST_REQUEST), _Response.SerializeToString
        methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "Check": grpc.stream_unary_rpc_method_handler(self._check, parse, serialise),
            "Watch": grpc.stream_stream_rpc_method_handler(self._watch, parse, serialise),
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    async def _check(self, _requests: AsyncIterator[Incoming], context: "AnyContext") -> _Response:
        name = await _name(context)
        state = None if name is None else self.state(name)
        if name is not None and state is None:
            context.set_code(grpc.StatusCode.NOT_FOUND)
            context.set_details('no such service: ask for "" or a service\'s full name')
        return _Response(status=_status(state))

    async def _watch(self, _requests: AsyncIterator[Incoming], context: "AnyContext") -> AsyncIterator[_Response]:
        name, told = await _name(context), None
        while name is not None:
            changed = self._changed
            status = _status(self.state(name))
            if status != told:
                told = status
                yield _Response(status=status)
            elif self._ended:
                return
            else:
                await changed.wait()

    def end(self) -> None:
        """End every watch, so that none holds the server up."""
        self._ended = True
        self._notify()

    def _notify(self) -> None:
        # Watchers hold the old event, so one that is being told something misses nothing.
        self._changed.set()
        self._changed = asyncio.Event()


async def _name(context: "AnyContext") -> str | None:
    """Return the name that is asked about; None when the call ends instead."""
    try:
        request = await only(context)
    except ServiceError as error:
        end(context, error)
        return None
    if isinstance(request, BadFrame):
        end(context, request.error)
        return None
    assert isinstance(request, health_pb2.HealthCheckRequest), "what is no request was refused"
    return request.service


def _status(state: bool | None) -> int:
    if state is None:
        return _Response.SERVICE_UNKNOWN
    return _Response.SERVING if state else _Response.NOT_SERVING
