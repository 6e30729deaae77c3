"""The public keys of a token issuer, read over HTTP and kept for a while."""

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final

import httpx
import orjson
import structlog
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from agent_runtime import v1
from agent_runtime_server.core.errors import DependencyError

_log = structlog.get_logger(__name__)

_FRESH_SECONDS: Final = 300.0
_STALE_SECONDS: Final = 3600.0  # how long old keys are good when the issuer cannot be reached
_PAUSE_SECONDS: Final = 10.0  # between two readings, whatever tokens ask for
_TIMEOUT_SECONDS: Final = 5.0
_MOST_BYTES: Final = 1 << 20


class Jwks:
    """The keys at one URL; read anew when they are old, or when a token names one that is not among them."""

    def __init__(self, url: str, http: httpx.AsyncClient, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._http = http
        self._clock = clock
        self._keys: KeySet | None = None
        self._kids: frozenset[str | None] = frozenset()
        self._read_at = self._tried_at = float("-inf")
        self._reading = asyncio.Lock()

    async def keys(self, kid: str | None) -> KeySet:
        """Return the keys, with the named one among them if the issuer has it."""
        if self._keys is None or not self._suffices(kid):
            async with self._reading:
                if self._keys is None or (not self._suffices(kid) and self._may_read()):
                    await self._read()
        if self._keys is None or self._age() > _STALE_SECONDS:
            message = "the public keys of the token issuer cannot be read"
            reason = v1.ERROR_REASON_DEPENDENCY_UNAVAILABLE
            raise DependencyError(reason, message, retry_delay=timedelta(seconds=_PAUSE_SECONDS))
        return self._keys

    def _suffices(self, kid: str | None) -> bool:
        return self._age() < _FRESH_SECONDS and (kid is None or kid in self._kids)

    def _may_read(self) -> bool:
        return self._clock() - self._tried_at >= _PAUSE_SECONDS

    def _age(self) -> float:
        return self._clock() - self._read_at

    async def _read(self) -> None:
        if not self._may_read():
            return
        self._tried_at = self._clock()
        try:
            async with asyncio.timeout(_TIMEOUT_SECONDS):
                keys = KeySet.import_key_set(orjson.loads(await self._fetch()))
        except (httpx.HTTPError, TimeoutError, JoseError, ValueError, KeyError, TypeError) as error:
            _log.warning("the keys of the token issuer cannot be read", url=self._url, error=type(error).__name__)
            return
        self._keys, self._kids = keys, frozenset(key.kid for key in keys)
        self._read_at = self._clock()

    async def _fetch(self) -> bytes:
        async with self._http.stream("GET", self._url, headers={"accept": "application/json"}) as response:
            response.raise_for_status()
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > _MOST_BYTES:
                    raise ValueError("the key set is too large")
        return bytes(body)
