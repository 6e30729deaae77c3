"""What was found out lately about a credential, so that a call needs no second look."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Final

from agent_runtime_server.core.principal import Principal

_MOST: Final = 10_000

Verify = Callable[[str], Awaitable[Principal | None]]


class Remembered:
    """Remembers for some seconds whom credentials belong to, also that they belong to nobody.

    It keeps their digests, never themselves.
    """

    def __init__(self, verify: Verify, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._verify = verify
        self._seconds = seconds
        self._clock = clock
        self._known: OrderedDict[bytes, tuple[float, Principal | None]] = OrderedDict()
        self._verifying: dict[bytes, tuple[asyncio.Lock, int]] = {}

    async def principal(self, credential: str) -> Principal | None:
        """Return whom a credential belongs to; callers with the same one verify it once."""
        digest = sha256(credential.encode(errors="surrogateescape")).digest()
        if (known := self._fresh(digest)) is not None:
            return known[1]
        async with self._alone(digest):
            if (known := self._fresh(digest)) is not None:
                return known[1]
            found = await self._verify(credential)
            self._remember(digest, found)
            return found

    def forget(self) -> None:
        """Look anew at everything."""
        self._known.clear()

    def _fresh(self, digest: bytes) -> tuple[float, Principal | None] | None:
        known = self._known.get(digest)
        return known if known is not None and self._clock() < known[0] else None

    def _remember(self, digest: bytes, found: Principal | None) -> None:
        self._known[digest] = (self._clock() + self._seconds, found)
        self._known.move_to_end(digest)
        while len(self._known) > _MOST:
            self._known.popitem(last=False)

    @asynccontextmanager
    async def _alone(self, digest: bytes) -> AsyncIterator[None]:
        lock, users = self._verifying.get(digest) or (asyncio.Lock(), 0)
        self._verifying[digest] = (lock, users + 1)
        try:
            async with lock:
                yield
        finally:
            lock, users = self._verifying.pop(digest)
            if users > 1:
                self._verifying[digest] = (lock, users - 1)
