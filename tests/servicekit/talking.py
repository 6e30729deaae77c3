"""One method over bytes, served by the server that the service runs on."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio

from agent_runtime_server.rpc.aio_server import AioServer


@asynccontextmanager
async def talking(handle: Callable[[Any, Any], Any]) -> AsyncIterator[grpc.aio.Channel]:
    """Serve one method while the block runs."""
    server = AioServer([("grpc.max_receive_message_length", -1)])
    handler: Any = grpc.stream_stream_rpc_method_handler(handle)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Test", {"Talk": handler})])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    await server.stop(0)
