"""HTTP/1.1 for streamed answers, beneath httpx: kept connections, httptools, and no task woken for each packet."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from ssl import SSLContext
from typing import Final

import httptools
import httpx

from agent_runtime_server.llm.moments import Moments, Place

_KEEP_ALIVE_SECONDS: Final = 30.0
_MOST_GATHERED: Final = 1 << 20
_LONGEST_HEAD: Final = 64 << 10
_MOST_STRETCH: Final = 3  # times what the taker asked for
_MANY_POURED: Final = 16  # answers at a time, from which on reading less often is worth that their ends wait, too
_CROWD_POURED: Final = 40  # from which on what comes gathers for longer
_MOST_CROWDED: Final = 2.5  # times longer
_THICK_SECONDS: Final = 0.01  # for which pieces gather whose taker wants them at once, where many are poured
_SOON: Final = 1.25  # ticks, within which one piece follows another where they come thick
_INFORMATIONAL: Final = range(100, 200)

Origin = tuple[bytes, str, int]
Take = Callable[[bytes], float]
"""Takes what came of a body, and returns for how many seconds the rest shall gather before it is called again.

When many answers are poured at a time, or the event loop is late, it gathers for longer, and the answers are read at
common moments: fewer calls with more in each, and fewer wake-ups with more calls in each, are what helps then.
"""
Pour = Callable[[Take], Awaitable[None]]


class StreamingTransport(httpx.AsyncBaseTransport):
    """Connections to any number of origins; one request at a time on each."""

    def __init__(self, tls: SSLContext, *, connect_seconds: float) -> None:
        self._tls = tls
        self._connect_seconds = connect_seconds
        self._idle: dict[Origin, deque[_Connection]] = {}  # the least recently used stand first
        self._poured: set[_Connection] = set()  # those whose answers are poured now
        self._moments = Moments(asyncio.get_running_loop())

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and return when the answer's head has come.

        The answer's extension `pour` is a cheaper way to its body; see `_Connection.pour`.
        """
        url = request.url
        origin = (url.raw_scheme, url.host, url.port or (443 if url.scheme == "https" else 80))
        await request.aread()
        data = _serialised(request)
        connection = self._kept(origin)
        if connection is not None:
            try:
                return await self._ask(connection, origin, request, data)
            except httpx.ReadError:
                if connection.heard:
                    raise
        return await self._ask(await self._connect(origin), origin, request, data)

    async def aclose(self) -> None:
        """Close what is kept; answers that are being read go on."""
        for connections in self._idle.values():
            for connection in connections:
                connection.close()
        self._idle.clear()

    async def _ask(
        self, connection: "_Connection", origin: Origin, request: httpx.Request, data: bytes
    ) -> httpx.Response:
        try:
            await connection.ask(data)
        except BaseException:
            connection.close()
            raise
        return httpx.Response(
            connection.status,
            headers=connection.headers,
            stream=_Body(self, origin, connection),
            request=request,
            extensions={"pour": connection.pour},
        )

    def _kept(self, origin: Origin) -> "_Connection | None":
        """Return a connection that is open and was used lately."""
        kept = self._idle.get(origin)
        while kept:
            connection = kept.pop()
            if connection.usable:
                return connection
            connection.close()
        return None

    async def _connect(self, origin: Origin) -> "_Connection":
        scheme, host, port = origin
        try:
            async with asyncio.timeout(self._connect_seconds):
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: _Connection(self._poured, self._moments),
                    host,
                    port,
                    ssl=self._tls if scheme == b"https" else None,
                )
        except TimeoutError as error:
            raise httpx.ConnectTimeout("the connection was not made in time") from error
        except OSError as error:
            raise httpx.ConnectError(str(error)) from error
        return connection

    def keep(self, origin: Origin, connection: "_Connection") -> None:
        """Take a connection back whose answer was read to the end."""
        kept = self._idle.setdefault(origin, deque())
        kept.append(connection)
        while not kept[0].usable:
            kept.popleft().close()


class _Body(httpx.AsyncByteStream):
    """The body of one answer."""

    def __init__(self, transport: StreamingTransport, origin: Origin, connection: "_Connection") -> None:
        self._transport = transport
        self._origin = origin
        self._connection = connection

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while data := await self._connection.read():
            yield data

    async def aclose(self) -> None:
        """Keep the connection for the next request, or close it when the answer was not read to its end."""
        if self._connection.finish():
            self._transport.keep(self._origin, self._connection)
        else:
            self._connection.close()


class _Connection(asyncio.Protocol):
    """One connection, and the answer that comes on it."""

    def __init__(self, poured: "set[_Connection]", moments: Moments) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.heard = False  # something of the answer
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._head_size = 0
        self._sized = False  # the answer says where it ends; else the connection's end is its end
        self._stays = False  # the endpoint lets the connection be used again
        self._begun = self._ended = True
        self._failure: Exception | None = None
        self._parts: list[bytes] = []
        self.on_body = self._parts.append  # of httptools: there is one call for each packet of an answer
        self._parser = httptools.HttpResponseParser(self)
        self._gathered = 0
        self._take: Take | None = None
        self._poured = poured
        self._moments = moments
        self._window: asyncio.TimerHandle | Place | None = None  # in which the body gathers
        self._late = 0.0  # how late the last one ended
        self._pieces = 0  # that came since the last handing over
        self._handed = float("-inf")  # when that was
        self._paused = False  # what comes gathers in the kernel, so that one call brings all of it
        self._waiter: asyncio.Future[None] | None = None
        self._used = self._loop.time()

    # -- for the transport ------------------------------------------------------------------------------------------

    @property
    def usable(self) -> bool:
        """Whether another request can be sent on it."""
        open_still = self._transport is not None and not self._transport.is_closing()
        return open_still and self._loop.time() - self._used < _KEEP_ALIVE_SECONDS

    async def ask(self, data: bytes) -> None:
        """Send a request and wait for the head of its answer."""
        self.status, self.headers, self.heard = 0, [], False
        self._head_size, self._sized = 0, False
        self._begun = self._ended = False
        if self._transport is None:
            raise httpx.ReadError("the connection was closed")
        self._transport.write(data)
        while not self._begun:
            await self._wait()

    async def read(self) -> bytes:
        """Return what of the body came since the last time; nothing at its end."""
        while not self._ended and not self._parts:
            await self._wait()
        if self._failure is not None and not self._parts:
            raise self._failure
        return self._all()

    def _all(self) -> bytes:
        """Return what has gathered."""
        data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        if self._gathered >= _MOST_GATHERED and self._transport is not None:
            self._transport.resume_reading()
        self._gathered = 0
        return data

    async def pour(self, take: Take) -> None:
        """Call `take` with the body as it comes, until its end, which waits for nothing while few are poured."""
        self._take = take
        self._poured.add(self)
        try:
            self._hand_over()
            while not self._ended:
                await self._wait()
        finally:
            self._take = None
            self._poured.discard(self)
        if self._failure is not None:
            raise self._failure

    def _hand_over(self, late: float = 0) -> None:
        """Give what has gathered to whom the body is poured; so many seconds later than it was to be."""
        if self._take is None or not self._parts:
            return
        try:
            seconds = self._take(self._all())
        except Exception as error:  # noqa: BLE001 - it is raised where the answer is waited for
            self._fail(error)
        else:
            if not self._ended:
                self._gather(seconds, late)

    def _gather(self, seconds: float, late: float) -> None:
        """Let the rest of the body gather, for as long as it was asked for or the crowd calls for."""
        now, many = self._loop.time(), len(self._poured) >= _MANY_POURED
        pieces, self._pieces = self._pieces, 0
        before, self._handed = self._handed, now
        asked = seconds or (_THICK_SECONDS if many else 0)
        dense = pieces > 1 or now - before < _SOON * asked
        if not asked or not (seconds or dense):
            return
        crowded = asked * min(_MOST_CROWDED, max(1, len(self._poured) / _CROWD_POURED))
        due = now + min(crowded + 4 * late, (1 + _MOST_STRETCH) * asked)
        if many:
            self._window = self._moments.wait(due, seconds, self._gathered_enough)
        else:
            self._window = self._loop.call_at(due, self._timed_out, due)
        if dense and many:
            self._pause()

    def _pause(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()
            self._paused = True

    def _resume(self) -> None:
        self._paused = False
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def finish(self) -> bool:
        """Let go of the answer; tells whether the connection can be asked again."""
        if self._window is not None:
            self._window.cancel()
            self._window = None
        self._used = self._loop.time()
        whole = self._ended and self._failure is None and not self._parts
        return whole and self._sized and self._stays and self.usable

    def close(self) -> None:
        """Close it."""
        if self._transport is not None:
            self._transport.abort()

    async def _wait(self) -> None:
        if self._failure is not None:
            raise self._failure
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _timed_out(self, due: float) -> None:
        self._gathered_enough(self._loop.time() - due)

    def _gathered_enough(self, late: float) -> None:
        self._window = None
        if self._paused:
            self._late = late
            self._resume()  # and what has gathered comes at once
        else:
            self._hand_over(late)

    # -- of asyncio -------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport  # type: ignore[assignment] # uvloop's are no asyncio.Transport

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        if self._ended:
            return self.close()  # nobody asked
        self.heard = True
        self._parse(data)
        if not self._begun:
            self._head_size += len(data)
            if self._head_size > _LONGEST_HEAD:
                self._fail(httpx.RemoteProtocolError("the head of the answer is too long"))
        elif self._window is None or self._ended:
            late, self._late = self._late, 0.0
            self._hand_over(late)
        return None

    def _parse(self, data: bytes) -> None:
        before = len(self._parts)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail(httpx.RemoteProtocolError("the endpoint speaks another protocol"))
        except httptools.HttpParserError as error:
            self._fail(httpx.RemoteProtocolError(f"the endpoint does not speak HTTP: {error}"))
        if len(self._parts) > before:
            self._heap(len(self._parts) - before, len(data))

    def _heap(self, pieces: int, size: int) -> None:
        """Note how many pieces of the body came, and about their size; wake the reader unless it is to read later."""
        self._pieces += pieces
        self._gathered += size
        if self._gathered >= _MOST_GATHERED and self._transport is not None:
            with suppress(RuntimeError):
                self._transport.pause_reading()
        if self._take is None:
            self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """End the answer, well if it was to end this way."""
        self._transport = None
        self._hand_over()
        if self._ended:
            return
        if self._begun and not self._sized and exc is None:
            self._ended = True
            self._wake()
        else:
            self._fail(httpx.ReadError("the endpoint closed the connection"))

    def _fail(self, failure: Exception) -> None:
        self._failure = self._failure or failure
        self._ended = True
        self._wake()
        self.close()

    # -- of httptools -----------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Close a connection on which more comes than was asked for."""
        if self._ended:
            self.close()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note a header."""
        self.headers.append((name, value))
        if name.lower() in (b"content-length", b"transfer-encoding"):
            self._sized = True

    def on_headers_complete(self) -> None:
        """Let the asker go on, unless the answer proper is still to come."""
        self.status = self._parser.get_status_code()
        self._stays = self._parser.should_keep_alive()
        if self.status not in _INFORMATIONAL:
            self._begun = True
            self._wake()

    def on_message_complete(self) -> None:
        """Wake the reader: nothing more will come."""
        if self.status in _INFORMATIONAL:
            self.headers = []
            return
        self._ended = True
        self._wake()


def _serialised(request: httpx.Request) -> bytes:
    """Return a request's bytes; httpx has refused line breaks in its headers."""
    head = [b"%s %s HTTP/1.1\r\n" % (request.method.encode("ascii"), request.url.raw_path)]
    head += [b"%s: %s\r\n" % header for header in request.headers.raw]
    return b"".join([*head, b"\r\n", request.content])
