"""Client certificates: whose they are, by the names in them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from agent_runtime_server.auth.errors import credentials_invalid, expired
from agent_runtime_server.core.principal import Principal


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a verified client certificate says."""

    names: Sequence[str]
    """Alternative names first, then the subject, then its common name."""
    expires: float


class Certificates:
    """Knows callers by their certificates; the settings say whose each name is."""

    def __init__(self, identities: Mapping[str, Principal]) -> None:
        self._identities = dict(identities)

    def principal(self, certificate: Certificate, now: float) -> Principal:
        """Return whose certificate this is; raises CREDENTIALS_INVALID when it is nobody's."""
        if certificate.expires <= now:
            raise expired()
        for name in certificate.names:
            if name in self._identities:
                return replace(self._identities[name], expires=certificate.expires)
        raise credentials_invalid("the client certificate names nobody who is known here")
