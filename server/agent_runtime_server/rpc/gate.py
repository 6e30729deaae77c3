"""Lets callers in: who they are, what they may call and how often, how many streams they may hold."""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import grpc.aio
from cryptography import x509

from agent_runtime_server.auth.authenticator import Authenticator
from agent_runtime_server.auth.certificates import Certificate
from agent_runtime_server.core.principal import LOCAL, Principal
from agent_runtime_server.rpc.access import PACKAGE, require
from agent_runtime_server.rpc.quotas import Quotas
from agent_runtime_server.rpc.streams import OpenStream, Streams

AUTHORIZATION: Final = "authorization"

if TYPE_CHECKING:
    AnyContext = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class Gate:
    """What every RPC passes; without an authenticator everybody is the local user."""

    authenticator: Authenticator | None = None
    streams: Streams = field(default_factory=Streams)
    quotas: Quotas = field(default_factory=Quotas)

    async def admit(self, method: str, metadata: Mapping[str, str], context: "AnyContext") -> Principal:
        """Return who calls; raises CREDENTIALS_INVALID, PERMISSION_DENIED or QUOTA_EXCEEDED."""
        who = LOCAL
        if self.authenticator is not None:
            authorization = metadata.get(AUTHORIZATION, "")
            certificate = None if authorization else presented(context.auth_context())
            who = await self.authenticator.principal(authorization, certificate)
        require(who, method.removeprefix(PACKAGE))
        await self.quotas.request(who, method)
        return who

    @contextmanager
    def stream(self, who: Principal, peer: str) -> Iterator[OpenStream]:
        """Count a stream while the block runs; raises TOO_MANY_STREAMS."""
        with self.streams.opened(who, peer) as stream:
            yield stream


def presented(auth_context: Mapping[str, Iterable[bytes]]) -> Certificate | None:
    """Return what the client's certificate says, None when it showed none."""
    pem = next(iter(auth_context.get("x509_pem_cert", ())), None)
    return None if pem is None else _read(pem)


@lru_cache(maxsize=1024)
def _read(pem: bytes) -> Certificate:
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        names = [*_alternative_names(certificate), certificate.subject.rfc4514_string(), *_common_names(certificate)]
        return Certificate(names, certificate.not_valid_after_utc.timestamp())
    except ValueError:  # grpc has verified it, but a name in it cannot be read
        return Certificate((), math.inf)


def _alternative_names(certificate: x509.Certificate) -> Iterator[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return
    for kind in (x509.UniformResourceIdentifier, x509.DNSName, x509.RFC822Name):
        yield from names.get_values_for_type(kind)


def _common_names(certificate: x509.Certificate) -> Iterator[str]:
    for attribute in certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME):
        yield str(attribute.value)
