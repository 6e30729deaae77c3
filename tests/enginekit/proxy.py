"""A line to Postgres that a test can cut, stall and close, as proxies and networks do."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

_SOCKET = ".s.PGSQL.5432"


class Proxy:
    """Forwards bytes between clients and one Postgres."""

    def __init__(self, url: str, directory: Path) -> None:
        parts = urlsplit(url)
        self._postgres = Path(parse_qs(parts.query)["host"][0]) / _SOCKET
        self.url = parts._replace(query=urlencode({"host": str(directory)})).geturl()
        self.tcp_url = ""
        self.lines = 0
        self.lost: list[str] = []
        self.opens = asyncio.Event()
        self.opens.set()
        self.refused = 0
        self._refuses = False
        self._loses: list[tuple[str, bytes]] = []
        self._stalled: set[asyncio.StreamWriter] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._clients: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[object]] = set()

    def lose_answer(self) -> None:
        """Cut the line on which the next answer of Postgres comes, instead of passing it on."""
        self._loses.append(("answer", b""))

    def lose_request(self, part: bytes = b"") -> None:
        """Cut the line on which the next request (with these bytes in it) comes, instead of passing it on."""
        self._loses.append(("request", part))

    def refuse(self) -> None:
        """Cut every line, and take no new one."""
        self._refuses = True
        for writer in self._writers:
            writer.close()

    def accept(self) -> None:
        """Take new lines again."""
        self._refuses = False

    def stall(self) -> None:
        """Pass nothing on any more on the lines there are, and say nothing about it."""
        self._stalled |= self._writers

    def say_on_idle_lines(self, answer: bytes) -> None:
        """Tell every client something that it has not asked for."""
        for writer in self._clients:
            writer.write(answer)

    def cut_at_next_use(self) -> None:
        """Cut each line there is when it is used next."""
        self._loses += [("request", b"")] * (len(self._writers) // 2)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one line until a side closes it."""
        task = asyncio.current_task()
        assert task is not None, "a server runs this in a task"
        self._serving.add(task)
        try:
            await self.opens.wait()
            if self._refuses:
                self.refused += 1
            else:
                await self._connect(reader, writer)
        except asyncio.CancelledError:
            pass  # the proxy closes; a server would log it
        finally:
            self._serving.discard(task)
            writer.close()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.lines += 1
        there_reader, there_writer = await asyncio.open_unix_connection(self._postgres)
        pair = {writer, there_writer}
        self._writers |= pair
        self._clients.add(writer)
        try:
            async with asyncio.TaskGroup() as group:
                up = group.create_task(self._forward(reader, there_writer, "request"))
                down = group.create_task(self._forward(there_reader, writer, "answer"))
                await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
                up.cancel()
                down.cancel()
        finally:
            self._writers -= pair
            self._clients.discard(writer)
            there_writer.close()

    async def close(self) -> None:
        """Cut every line."""
        for task in self._serving:
            task.cancel()
        if self._serving:
            await asyncio.wait(self._serving)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, what: str) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                if writer in self._stalled:
                    await asyncio.Event().wait()
                if self._loses and self._loses[0][0] == what and self._loses[0][1] in data:
                    del self._loses[0]
                    self.lost.append(what)
                    return
                writer.write(data)
                await writer.drain()


@asynccontextmanager
async def proxied(url: str) -> AsyncIterator[Proxy]:
    """Put a proxy in front of the Postgres of a URL; it listens on a unix socket and on a TCP port."""
    with tempfile.TemporaryDirectory(prefix="proxy-", dir="/tmp") as directory:
        proxy = Proxy(url, Path(directory))
        servers = (
            await asyncio.start_unix_server(proxy.serve, Path(directory) / _SOCKET),
            await asyncio.start_server(proxy.serve, "127.0.0.1", 0),
        )
        port = servers[1].sockets[0].getsockname()[1]
        parts = urlsplit(url)
        proxy.tcp_url = parts._replace(netloc=f"{parts.username}@127.0.0.1:{port}", query="").geturl()
        try:
            yield proxy
        finally:
            for server in servers:
                server.close()
            await proxy.close()
