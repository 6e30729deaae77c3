"""An OpenAI-compatible endpoint: httpx's requests and answers, by a transport made for streams.

An endpoint behind a proxy is reached by aiohttp's transport. Nothing of httpx or aiohttp crosses this seam. An endpoint
that ignores `stream` and answers one JSON document is understood too.
"""

import asyncio
import re
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from time import monotonic
from typing import Final
from urllib.request import getproxies, proxy_bypass

import httpx

from agent_runtime_server.core.errors import ModelError, ModelRejected, ModelUnavailable, invalid
from agent_runtime_server.llm.assembler import Assembler
from agent_runtime_server.llm.base import ModelAnswer, ModelRequest, Sink
from agent_runtime_server.llm.failures import status_failure
from agent_runtime_server.llm.intake import Intake
from agent_runtime_server.llm.messages import encode
from agent_runtime_server.llm.profile import Profile
from agent_runtime_server.llm.transport import Pour, StreamingTransport

_CONNECT_SECONDS: Final = 10.0
_PROBE_SECONDS: Final = 5.0
_USAGE_SECONDS: Final = 2.0  # for the usage, once the answer itself is complete
_END_SECONDS: Final = 0.2  # for the end of the body, once the stream said it is done
_KEEP_ALIVE_SECONDS: Final = 30.0
_LONGEST_REFUSAL: Final = 64 * 1024
_LOOPBACK: Final = re.compile(r"localhost|127\.\d+\.\d+\.\d+|::1")


class OpenAiModel:
    """The `/chat/completions` of one base URL; one request is one connection, kept for the next."""

    def __init__(
        self,
        base_url: str,
        api_key: str | None,
        *,
        first_token_seconds: float,
        idle_seconds: float,
        window_seconds: float = 0,
        profile: Profile | None = None,
    ) -> None:
        url = _checked_url(base_url)
        self.address = url.netloc.decode("ascii").rpartition("@")[2] + url.path.removesuffix("/v1").rstrip("/")
        self._completions, self._models = httpx.URL(f"{url}/chat/completions"), httpx.URL(f"{url}/models")
        self._profile = profile or Profile()
        self._key = _checked_key(api_key)
        self._first_token_seconds = first_token_seconds
        self._idle_seconds = idle_seconds
        self._window_seconds = window_seconds
        self._headers = _headers(url, self._key)
        self._transport = _new_transport(url)

    async def answer(self, request: ModelRequest, sink: Sink | None = None) -> ModelAnswer:
        """Return the whole answer, having told `sink` of it piece by piece; cancelling ends the request."""
        intake = Intake(Assembler(joins=self._window_seconds > 0))
        with self._seam():
            try:
                async with asyncio.timeout(self._first_token_seconds) as timer:
                    await self._receive(request, intake, sink, timer)
            except TimeoutError as error:
                if not timer.expired():
                    raise
                if not intake.finished:
                    raise ModelUnavailable(self._silence(intake), kind="timeout") from error
            return intake.answer(request.model)

    async def probe(self) -> None:
        """Return when the endpoint answers; raise ModelUnavailable when it does not."""
        with self._seam():
            try:
                async with asyncio.timeout(_PROBE_SECONDS):
                    await self._list_models()
            except TimeoutError as error:
                raise ModelUnavailable(
                    f"the model endpoint did not answer in {_PROBE_SECONDS:g} s", kind="timeout"
                ) from error
            except ModelRejected as error:
                raise ModelUnavailable(str(error)) from error

    async def aclose(self) -> None:
        """Close the connections."""
        await self._transport.aclose()

    async def _receive(self, request: ModelRequest, intake: Intake, sink: Sink | None, timer: asyncio.Timeout) -> None:
        body = encode(self._profile.payload(request))
        async with aclosing(await self._ask("POST", self._completions, body)) as response:
            if response.status_code != httpx.codes.OK:
                raise await _refusal(response)
            await self._read(response, intake, sink, timer)

    async def _ask(self, method: str, url: httpx.URL, body: bytes | None = None) -> httpx.Response:
        """Send a request by the transport itself, for a client of httpx would add 0.1 ms of CPU time to each.

        It is whole already: httpx would take ten times as long to find out what it lacks.
        """
        length = () if body is None else ((b"content-length", b"%d" % len(body)),)
        request = httpx.Request(
            method,
            url,
            headers=[*self._headers.raw, *length],
            stream=httpx.ByteStream(body or b""),
            extensions={"timeout": {"connect": _CONNECT_SECONDS}},
        )
        return await self._transport.handle_async_request(request)

    async def _read(self, response: httpx.Response, intake: Intake, sink: Sink | None, timer: asyncio.Timeout) -> None:
        """Read to the end; while text flows, what comes within a window is taken as one."""

        def take(data: bytes) -> float:
            if intake.done:
                return 0  # to the end of the body, so that the connection can be used again
            heard = intake.events
            deltas = intake.feed(data)
            if intake.events != heard:
                self._extend(timer, intake)
            if deltas and sink:
                sink(deltas)
                return self._window_seconds
            return 0

        pour: Pour | None = response.extensions.get("pour")
        try:
            if pour is not None and "content-encoding" not in response.headers:
                await pour(take)
            else:
                async for data in response.aiter_bytes():
                    take(data)
        except (httpx.HTTPError, OSError):
            if not intake.finished:
                raise
        if (deltas := intake.finish()) and sink:
            sink(deltas)

    def _extend(self, timer: asyncio.Timeout, intake: Intake) -> None:
        """Give the endpoint its time again; the first wait lasts until something was said."""
        if intake.done:
            wait = _END_SECONDS
        elif intake.finished:
            wait = min(self._idle_seconds, _USAGE_SECONDS)
        elif intake.begun:
            wait = self._idle_seconds
        else:
            return
        when, now = timer.when() or 0, monotonic()
        if not wait * 15 / 16 < when - now <= wait:  # setting it for each packet costs more than it is worth
            timer.reschedule(now + wait)

    def _silence(self, intake: Intake) -> str:
        if intake.begun:
            return f"the model endpoint fell silent for {self._idle_seconds:g} s in the middle of its answer"
        return f"the model endpoint said nothing for {self._first_token_seconds:g} s"

    async def _list_models(self) -> None:
        async with aclosing(await self._ask("GET", self._models)) as response:
            # Not every endpoint has the list; one that says so is there.
            if not response.is_success and response.status_code not in (404, 405, 501):
                raise await _refusal(response)

    @contextmanager
    def _seam(self) -> Iterator[None]:
        """Let nothing through but errors of our own tree, and never the key."""
        try:
            yield
        except ModelError as error:
            raise self._without_key(error) from error.__cause__
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise ModelUnavailable("the model endpoint cannot be reached", kind="connect") from error
        except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, OSError) as error:
            raise ModelUnavailable("the connection to the model endpoint broke") from error

    def _without_key(self, error: ModelError) -> ModelError:
        if self._key and self._key in str(error):
            error.args = (str(error).replace(self._key, "***"),)
        return error


async def _refusal(response: httpx.Response) -> ModelError:
    body = bytearray()
    try:
        async for data in response.aiter_bytes():
            body += data
            if len(body) > _LONGEST_REFUSAL:
                break
    except (httpx.HTTPError, OSError):
        body.clear()  # the status alone says enough
    return status_failure(response.status_code, bytes(body[:_LONGEST_REFUSAL]), response.headers)


def _headers(url: httpx.URL, key: str | None) -> httpx.Headers:
    headers = {
        "host": url.netloc.decode("ascii"),
        "content-type": "application/json",
        "accept": "text/event-stream, application/json",
        "accept-encoding": "identity",  # packing would hold tokens back
        "user-agent": "agent-runtime",
    }
    return httpx.Headers(headers | ({"authorization": f"Bearer {key}"} if key else {}))


def _new_transport(url: httpx.URL) -> httpx.AsyncBaseTransport:
    tls = httpx.create_ssl_context()
    if not _by_proxy(url):
        return StreamingTransport(tls, connect_seconds=_CONNECT_SECONDS)

    from agent_runtime_server.llm.proxied import ProxiedTransport  # which takes long to load

    return ProxiedTransport(tls, keep_alive_seconds=_KEEP_ALIVE_SECONDS)


def _by_proxy(url: httpx.URL) -> bool:
    """Tell whether the environment names a proxy for the endpoint; it serves outside endpoints only."""
    if _LOOPBACK.fullmatch(url.host) or proxy_bypass(url.host):
        return False
    return url.scheme in getproxies()


def _checked_url(base_url: str) -> httpx.URL:
    try:
        url = httpx.URL(base_url.rstrip("/"))
    except httpx.InvalidURL as error:
        raise invalid("llm_base_url", "url", "must be an http or https URL ending in /v1") from error
    if url.scheme not in ("http", "https") or not url.host or url.query or url.fragment:
        raise invalid("llm_base_url", "url", "must be an http or https URL ending in /v1")
    return url


def _checked_key(api_key: str | None) -> str | None:
    key = (api_key or "").strip()
    if not all("!" <= letter <= "~" for letter in key):
        raise invalid("llm_api_key", "printable", "must be printable ASCII without spaces")
    return key or None
