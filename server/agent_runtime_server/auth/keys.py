"""API keys: random, shown once, kept as digests.

A key is `ark_<id>_<secret>`. The id is public: it stands in lists and logs. The secret has 192 random bits, so a plain
digest of the key tells nothing about it, and there is nothing to slow a guesser down for.
"""

import math
import re
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from hashlib import sha256
from hmac import compare_digest
from typing import Final

from agent_runtime_server.auth.remembered import Remembered
from agent_runtime_server.core.principal import Principal, Role
from agent_runtime_server.stores.shared import KeyRow, KeyStore

PREFIX: Final = "ark_"
_KEY: Final = re.compile(r"ark_([0-9a-f]{12})_[0-9a-f]{48}")
_FRESH_SECONDS: Final = 10.0


def new_key(
    tenant: str, subject: str, roles: Iterable[Role], expires: datetime | None = None, display_name: str = ""
) -> tuple[str, KeyRow]:
    """Return a new key, which is not to be had again, and the row that is kept of it."""
    key_id = secrets.token_hex(6)
    key = f"{PREFIX}{key_id}_{secrets.token_hex(24)}"
    named = display_name or subject
    return key, KeyRow(key_id, _digest(key), tenant, subject, named, frozenset(roles), expire_time=expires)


class Keys:
    """Knows callers by their API keys; a revoked one is good for ten more seconds at the most."""

    def __init__(
        self,
        store: KeyStore,
        *,
        fresh_seconds: float = _FRESH_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._clock = clock
        self._remembered = Remembered(self._verify, fresh_seconds)

    async def principal(self, key: str) -> Principal | None:
        """Return whose key this is, None when it is nobody's."""
        found = await self._remembered.principal(key) if _KEY.fullmatch(key) else None
        return found if found is None or found.expires is None or found.expires > self._clock() else None

    async def endings(self, key_ids: Iterable[str]) -> Mapping[str, float]:
        """Return when each of these keys ends by now: 0 when it is good no more, infinity when it does not end."""
        asked = sorted(set(key_ids))
        good = await self._store.good(asked) if asked else {}
        return {key_id: _ending(good[key_id]) if key_id in good else 0 for key_id in asked}

    async def _verify(self, key: str) -> Principal | None:
        match = _KEY.fullmatch(key)
        row = await self._store.get(match[1]) if match else None
        if row is None or not compare_digest(row.digest, _digest(key)) or not row.is_good(self._clock()):
            return None
        expires = row.expire_time.timestamp() if row.expire_time else None
        return Principal(row.tenant, row.subject, row.display_name, row.roles, expires, row.key_id)


def _ending(expires: datetime | None) -> float:
    return math.inf if expires is None else expires.timestamp()


def _digest(key: str) -> bytes:
    return sha256(key.encode()).digest()
