"""A TCP proxy between a client and the replicas, which can cut, reset, stall, or silently forget its connections."""

import asyncio
import random
import socket
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

_CHUNK: Final = 65536
_CONNECT_SECONDS: Final = 2.0
_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER with no time left: close() sends RST


@dataclass(eq=False, slots=True)
class Connection:
    """One connection from a client through to a replica."""

    target: str
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    up: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while what the client sends is forwarded."""
    down: asyncio.Event = field(default_factory=asyncio.Event)

    def flow(self) -> None:
        """Forward both ways."""
        self.up.set()
        self.down.set()

    def hold(self) -> None:
        """Forward nothing."""
        self.up.clear()
        self.down.clear()

    def close(self) -> None:
        """End both halves in order, as a proxy that restarts does."""
        self.flow()
        for writer in (self.client, self.server):
            writer.close()

    def reset(self) -> None:
        """End both halves by RST."""
        for writer in (self.client, self.server):
            end = writer.get_extra_info("socket")
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()
        self.flow()


class Proxy:
    """Hands each new connection to a replica that accepts one, best not to the one before."""

    def __init__(self, targets: Sequence[str]) -> None:
        self.address = ""
        self.connections: set[Connection] = set()
        self._targets = list(targets)
        self._last = ""
        self._forgotten: list[Connection] = []

    def cut(self) -> None:
        """Close every connection."""
        for connection in list(self.connections):
            connection.close()

    def reset(self) -> None:
        """Reset every connection."""
        for connection in list(self.connections):
            connection.reset()

    def forget(self) -> None:
        """Stop forwarding on every connection, for good, and leave it open: half-open to both sides."""
        for connection in list(self.connections):
            connection.hold()
            self._forgotten.append(connection)
            self.connections.discard(connection)

    @asynccontextmanager
    async def stalled(self) -> AsyncIterator[None]:
        """Forward nothing on the connections there are while the block runs, then all that came."""
        held = list(self.connections)
        for connection in held:
            connection.hold()
        try:
            yield
        finally:
            for connection in held:
                if connection not in self._forgotten:
                    connection.flow()

    def deafen(self) -> None:
        """Let the client hear nothing more on the connections there are, while what it says still arrives."""
        for connection in self.connections:
            connection.down.clear()

    def close(self) -> None:
        """Close every connection, forgotten ones too."""
        self.cut()
        for connection in self._forgotten:
            connection.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one client's connection until either side ends it."""
        found = await self._connect()
        if found is None:
            writer.transport.abort()
            return
        target, server_reader, server_writer = found
        connection = Connection(target, writer, server_writer)
        connection.flow()
        self.connections.add(connection)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_pump(reader, server_writer, connection.up, connection))
                tasks.create_task(_pump(server_reader, writer, connection.down, connection))
        finally:
            self.connections.discard(connection)
            connection.close()

    async def _connect(self) -> tuple[str, asyncio.StreamReader, asyncio.StreamWriter] | None:
        others = [target for target in self._targets if target != self._last]
        for target in [*random.sample(others, len(others)), *([self._last] if self._last else [])]:
            host, _, port = target.rpartition(":")
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(_CONNECT_SECONDS):
                    streams = await asyncio.open_connection(host, int(port))
                self._last = target
                return target, *streams
        return None


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flows: asyncio.Event, connection: Connection
) -> None:
    with suppress(OSError):
        while data := await reader.read(_CHUNK):
            await flows.wait()
            writer.write(data)
            await writer.drain()
    await flows.wait()  # a half-open connection does not tell that one side has left either
    connection.close()


@asynccontextmanager
async def proxying(targets: Sequence[str]) -> AsyncIterator[Proxy]:
    """Run a proxy in front of the replicas while the block runs."""
    proxy = Proxy(targets)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    proxy.address = f"{host}:{port}"
    try:
        yield proxy
    finally:
        server.close()
        proxy.close()
        await server.wait_closed()
