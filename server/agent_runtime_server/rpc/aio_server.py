"""grpc.aio's server, kept alive and of one size.

With grpc.aio's own, any caller ends the process by a method name that is no UTF-8: its main loop decodes the name of
every method that is not registered, and ends with the error of that. So here all methods that are served are
registered, and a call of any other is refused before its name is looked at.
And it keeps what cancelled and failed operations brought (see `batches`), and the metadata of each call, to which the
function that looks for its method refers in a circle, until a collection of garbage. Both are done in another way here.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, Final

import grpc.aio
from grpc._cython import cygrpc
from grpc.aio._server import Server

from agent_runtime_server.rpc import batches

_NO_METHODS: Final = cygrpc._MethodResolver([], {})
_NO_NAME: Final = "unknown"


async def _find_method(method: str, metadata: object, methods: Any, _interceptors: object) -> Any:
    """Return what handles a method; there are no interceptors."""
    return methods.resolve_handler(cygrpc._HandlerCallDetails(method, metadata))


cygrpc.execute_batch = batches.execute
cygrpc._find_method_handler = _find_method


class AioServer(Server, grpc.aio.Server):  # type: ignore[misc] # which has no types, either
    """Serves methods; calls of others end with UNIMPLEMENTED."""

    def __init__(self, options: Sequence[tuple[str, Any]] = ()) -> None:
        self._loop = cygrpc.get_working_loop()
        self._server = _Core(self._loop, None, (), (), tuple(options), None)

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Iterable[Any]) -> None:
        """Serve the methods of services, each as `grpc.method_handlers_generic_handler` returns it."""
        for service in generic_rpc_handlers:
            self._server.add_registered_method_handlers(service._method_handlers)


class _Core(cygrpc.AioServer):  # type: ignore[misc] # which has no types
    """Hands to its main loop only the calls that it can name."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *rest: Any) -> None:
        super().__init__(loop, *rest)
        self._refusals: set[asyncio.Task[None]] = set()
        self._own_loop = loop

    async def _request_call(self) -> None:
        """Wait for calls of methods that are not registered, and refuse them all."""
        while True:
            call = await super()._request_call()
            refusal = cygrpc._handle_rpc(_NO_NAME, _NO_METHODS, (), call, self._own_loop, False)
            scheduled = cygrpc._schedule_rpc_coro(refusal, call, self._own_loop, _NO_NAME)
            task = self._own_loop.create_task(scheduled)
            self._refusals.add(task)
            task.add_done_callback(self._refusals.discard)
