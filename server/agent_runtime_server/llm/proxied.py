"""The way to an endpoint behind a proxy: aiohttp's transport. It takes long to load, so nobody else imports it."""

import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport


class ProxiedTransport(AiohttpTransport):
    """A transport by the proxies of the environment, of which no error but httpx's comes."""

    def __init__(self, tls: ssl.SSLContext, *, keep_alive_seconds: float) -> None:
        def session() -> aiohttp.ClientSession:
            # The session needs a running loop, so it is made with the first request.
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=keep_alive_seconds, ssl=tls)
            return aiohttp.ClientSession(
                connector=connector, trust_env=True, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False
            )

        super().__init__(verify=tls, client=session)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, return its answer with the body to be read."""
        with _mapped():
            response = await super().handle_async_request(request)
        assert isinstance(response.stream, httpx.AsyncByteStream), "it was asked for by an asynchronous client"
        response.stream = _Body(response.stream)
        return response


class _Body(httpx.AsyncByteStream):
    def __init__(self, body: httpx.AsyncByteStream) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _mapped():
            async for data in self._body:
                yield data

    async def aclose(self) -> None:
        with _mapped():
            await self._body.aclose()


@contextmanager
def _mapped() -> Iterator[None]:
    """Raise what httpx-aiohttp does not map as an error of httpx."""
    try:
        yield
    except aiohttp.ClientError as error:
        raise httpx.RemoteProtocolError(str(error) or type(error).__name__) from error
