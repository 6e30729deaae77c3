"""Answers as endpoints really send them: in any pieces, kept connections, cuts, and what gathers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import httpx
import pytest

from agent_runtime_server.llm.moments import TICK_SECONDS
from agent_runtime_server.llm.transport import _MANY_POURED, StreamingTransport

Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


class Endpoint:
    """A server that answers each request with the next piece of script."""

    def __init__(self, answers: Sequence[Sequence[bytes | None]]) -> None:
        self.answers = list(answers)
        self.requests: list[bytes] = []
        self.connections = 0
        self.go_on = asyncio.Event()
        self.url = ""
        self._served: set[asyncio.Task[None] | None] = set()

    async def end(self) -> None:
        await asyncio.gather(*filter(None, self._served))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._served.add(asyncio.current_task())
        try:
            while self.answers:
                self.requests.append(await _request(reader))
                for piece in self.answers.pop(0):
                    if piece is None:
                        return
                    if not piece:
                        await self.go_on.wait()
                    writer.write(piece)
                    await writer.drain()
            await reader.read()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


async def _request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next((line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), b":0")
    return head + await reader.readexactly(int(length.partition(b":")[2]))


@asynccontextmanager
async def answering(*answers: Sequence[bytes | None]) -> AsyncIterator[tuple[Endpoint, StreamingTransport]]:
    """Serve these answers, `b""` waiting for `go_on` and None closing the connection."""
    endpoint = Endpoint(answers)
    server = await asyncio.start_server(endpoint.serve, "127.0.0.1", 0)
    endpoint.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    transport = StreamingTransport(httpx.create_ssl_context(), connect_seconds=10)
    try:
        yield endpoint, transport
    finally:
        await transport.aclose()
        endpoint.go_on.set()
        await endpoint.end()
        server.close()


async def ask(endpoint: Endpoint, transport: StreamingTransport) -> httpx.Response:
    return await transport.handle_async_request(httpx.Request("POST", endpoint.url, content=b"question"))


async def body(response: httpx.Response) -> bytes:
    try:
        return b"".join([data async for data in response.aiter_bytes()])
    finally:
        await response.aclose()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


async def test_a_request_arrives_whole_and_its_answer_comes_back() -> None:
    async with answering([HEAD + chunk(b"an") + chunk(b"swer") + END]) as (endpoint, transport):
        response = await ask(endpoint, transport)
        assert response.status_code == 200
        assert await body(response) == b"answer"
        assert endpoint.requests[0].startswith(b"POST /v1 HTTP/1.1\r\nHost: 127.0.0.1:")
        assert endpoint.requests[0].endswith(b"\r\nContent-Length: 8\r\n\r\nquestion")


async def test_pieces_may_be_cut_anywhere() -> None:
    whole = HEAD + chunk(b"answer") + END
    async with answering([whole[at : at + 1] for at in range(len(whole))]) as (endpoint, transport):
        assert await body(await ask(endpoint, transport)) == b"answer"


async def test_a_connection_is_kept_for_the_next_request() -> None:
    async with answering([HEAD + END], [b"HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nno"]) as (endpoint, transport):
        await body(await ask(endpoint, transport))
        response = await ask(endpoint, transport)
        assert (response.status_code, await body(response)) == (404, b"no")
        assert endpoint.connections == 1


async def test_a_kept_connection_that_was_closed_meanwhile_is_replaced() -> None:
    async with answering([HEAD + END, None], [HEAD + chunk(b"again") + END]) as (endpoint, transport):
        await body(await ask(endpoint, transport))
        assert await body(await ask(endpoint, transport)) == b"again"
        assert endpoint.connections == 2


async def test_a_connection_is_not_kept_when_the_endpoint_says_so() -> None:
    closing = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
    async with answering([closing], [HEAD + END]) as (endpoint, transport):
        await body(await ask(endpoint, transport))
        await body(await ask(endpoint, transport))
        assert endpoint.connections == 2


async def test_an_answer_that_is_not_read_to_its_end_takes_its_connection_along() -> None:
    async with answering([HEAD + chunk(b"begun"), b"", END], [HEAD + END]) as (endpoint, transport):
        await (await ask(endpoint, transport)).aclose()
        await body(await ask(endpoint, transport))
        assert endpoint.connections == 2


async def test_without_a_length_the_end_of_the_connection_is_the_end() -> None:
    async with answering([b"HTTP/1.1 200 OK\r\n\r\nall of it", None]) as (endpoint, transport):
        assert await body(await ask(endpoint, transport)) == b"all of it"


async def test_what_comes_before_the_answer_proper_is_passed_over() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n"
    async with answering([early + HEAD + chunk(b"answer") + END]) as (endpoint, transport):
        response = await ask(endpoint, transport)
        assert response.status_code == 200
        assert "link" not in response.headers
        assert await body(response) == b"answer"


@pytest.mark.parametrize("said", [HEAD + chunk(b"cut"), b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ncut"])
async def test_an_answer_that_is_cut_off_fails_behind_what_came(said: bytes) -> None:
    async with answering([said, None]) as (endpoint, transport):
        reads = (await ask(endpoint, transport)).aiter_bytes()
        assert await anext(reads) == b"cut"
        with pytest.raises(httpx.ReadError):
            await anext(reads)


@pytest.mark.parametrize("said", [b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: %s\r\n" % (b"x" * 70_000)])
async def test_what_is_no_answer_is_an_error(said: bytes) -> None:
    async with answering([said, b"", b""]) as (endpoint, transport):
        with pytest.raises(httpx.RemoteProtocolError):
            await ask(endpoint, transport)


async def test_nobody_there_is_an_error_of_connecting() -> None:
    async with answering([]) as (endpoint, transport):
        endpoint.url = "http://127.0.0.1:1/v1"
        with pytest.raises(httpx.ConnectError):
            await ask(endpoint, transport)


async def test_more_than_was_asked_for_spoils_a_connection() -> None:
    async with answering([HEAD + END + b"HTTP/1.1 200 OK\r\n\r\n"], [HEAD + chunk(b"right") + END]) as (at, transport):
        await body(await ask(at, transport))
        assert await body(await ask(at, transport)) == b"right"
        assert at.connections == 2


async def test_what_is_poured_gathers_as_long_as_its_taker_says_but_for_the_end() -> None:
    async with answering([HEAD + chunk(b"first"), b"", chunk(b"more"), chunk(b"last") + END]) as (endpoint, transport):
        response = await ask(endpoint, transport)
        taken: list[bytes] = []

        def take(data: bytes) -> float:
            taken.append(data)
            endpoint.go_on.set()
            return 3600

        async with asyncio.timeout(60):
            await response.extensions["pour"](take)
        assert taken == [b"first", b"morelast"]
        await response.aclose()


async def test_what_a_taker_raises_ends_the_answer() -> None:
    async with answering([HEAD + chunk(b"first"), b"", END], [HEAD + END]) as (endpoint, transport):
        response = await ask(endpoint, transport)

        def take(data: bytes) -> float:
            raise LookupError(data)

        with pytest.raises(LookupError):
            await response.extensions["pour"](take)
        await response.aclose()
        await body(await ask(endpoint, transport))
        assert endpoint.connections == 2


async def test_while_many_are_poured_what_comes_densely_is_taken_together_and_whole() -> None:
    letters = [chunk(letter.encode()) for letter in "cdefghij"]
    script = [HEAD, chunk(b"a") + chunk(b"b"), b"", *letters, END]
    async with answering(*[script] * _MANY_POURED) as (endpoint, transport):
        responses = [await ask(endpoint, transport) for _ in range(_MANY_POURED)]
        taken: list[list[bytes]] = [[] for _ in responses]

        def taker(mine: list[bytes]) -> Callable[[bytes], float]:
            def take(data: bytes) -> float:
                mine.append(data)
                if all(taken):
                    endpoint.go_on.set()
                return 0.05

            return take

        pours = (one.extensions["pour"](taker(mine)) for one, mine in zip(responses, taken, strict=True))
        async with asyncio.timeout(60):
            await asyncio.gather(*pours)
        assert {b"".join(mine) for mine in taken} == {b"abcdefghij"}
        assert max(map(len, taken)) < len(letters)
        for response in responses:
            await response.aclose()


@pytest.mark.parametrize("seconds", [0.05, 0])
async def test_many_are_read_at_common_moments_whether_their_takers_want_it_gathered_or_not(seconds: float) -> None:
    letters = [chunk(letter.encode()) for letter in "cdefghij"]
    script = [HEAD, chunk(b"a") + chunk(b"b"), b"", *letters, END]
    async with answering(*[script] * _MANY_POURED) as (endpoint, transport):
        responses = [await ask(endpoint, transport) for _ in range(_MANY_POURED)]
        moments: list[float] = []
        taken: set[int] = set()

        def taker(number: int) -> Callable[[bytes], float]:
            def take(_data: bytes) -> float:
                if number in taken:
                    moments.append(asyncio.get_running_loop().time())
                taken.add(number)
                if len(taken) == _MANY_POURED:
                    endpoint.go_on.set()
                return seconds

            return take

        pours = (one.extensions["pour"](taker(number)) for number, one in enumerate(responses))
        async with asyncio.timeout(60):
            await asyncio.gather(*pours)
        assert len({int(moment / TICK_SECONDS) for moment in moments}) < len(moments)
        for response in responses:
            await response.aclose()
