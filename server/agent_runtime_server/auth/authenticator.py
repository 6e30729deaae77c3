"""From what a caller presents to who they are."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from agent_runtime_server.auth.certificates import Certificate, Certificates
from agent_runtime_server.auth.errors import credentials_invalid
from agent_runtime_server.auth.keys import PREFIX, Keys
from agent_runtime_server.core.principal import Principal

if TYPE_CHECKING:
    from agent_runtime_server.auth.tokens import Tokens

_SCHEME: Final = "bearer "


@dataclass(frozen=True, slots=True)
class Authenticator:
    """Knows callers by an API key or a token in `authorization`, else by their client certificate."""

    keys: Keys
    tokens: "Tokens | None" = None
    certificates: Certificates | None = None
    clock: Callable[[], float] = time.time

    async def principal(self, authorization: str, certificate: Certificate | None = None) -> Principal:
        """Return who calls; raises CREDENTIALS_INVALID, and StoreUnavailable when that cannot be looked up now."""
        if authorization:
            return await self._bearer(authorization)
        if certificate is not None and self.certificates is not None:
            return self.certificates.principal(certificate, self.clock())
        raise credentials_invalid("credentials are needed: send the metadata `authorization: Bearer KEY`")

    async def _bearer(self, authorization: str) -> Principal:
        if authorization[: len(_SCHEME)].lower() != _SCHEME:
            raise credentials_invalid("the metadata `authorization` must read `Bearer KEY`")
        credential = authorization[len(_SCHEME) :].strip()
        if credential.startswith(PREFIX):
            found = await self.keys.principal(credential)
            if found is None:
                raise credentials_invalid("the API key is unknown, revoked or expired")
            return found
        if self.tokens is None or credential.count(".") != 2:  # header, payload, signature
            raise credentials_invalid("the credential is no API key" + (" and no token" if self.tokens else ""))
        return await self.tokens.principal(credential)

    async def endings(self, callers: Iterable[Principal]) -> Mapping[str, float]:
        """Return when the API keys of those callers that have one end, by their ids: 0 for those good no more."""
        return await self.keys.endings(caller.key_id for caller in callers if caller.key_id)
