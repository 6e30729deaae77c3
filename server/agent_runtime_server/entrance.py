"""How callers come in, put together from the settings: over which connections, as whom, and how many at a time."""

import ipaddress
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import grpc.aio
import httpx

from agent_runtime_server.auth.authenticator import Authenticator
from agent_runtime_server.auth.certificates import Certificates
from agent_runtime_server.auth.keys import Keys
from agent_runtime_server.core.principal import Principal
from agent_runtime_server.core.settings import AuthMode, Settings
from agent_runtime_server.rpc.gate import Gate
from agent_runtime_server.rpc.quotas import Quotas
from agent_runtime_server.rpc.streams import StreamLimits, Streams
from agent_runtime_server.rpc.tls import TlsFiles, server_credentials
from agent_runtime_server.stores.shared import KeyStore

if TYPE_CHECKING:
    from agent_runtime_server.auth.tokens import Tokens

_CALLS_BESIDE = 1000  # of a connection, beside its streams; further ones wait for their turn in the client
_STREAMS_PER_CALLER = 1000  # where callers are told apart


def options(settings: Settings, *, shares_port: bool) -> Sequence[tuple[str, int]]:
    """Return the options of the gRPC server: its hard limits, and whether others may listen beside it."""
    streams = settings.max_streams_per_connection or settings.max_streams
    return (
        *((("grpc.max_concurrent_streams", streams + _CALLS_BESIDE),) if streams else ()),
        ("grpc.max_receive_message_length", 4 << 20),  # of a compressed message also what it is inflated to
        ("grpc.max_send_message_length", 4 << 20),
        ("grpc.max_metadata_size", 16 << 10),
        ("grpc.absolute_max_metadata_size", 16 << 10),
        ("grpc.max_allowed_incoming_connections", settings.max_connections),
        ("grpc.server_handshake_timeout_ms", 10_000),
        ("grpc.max_connection_idle_ms", int(settings.connection_idle_seconds * 1000)),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
        ("grpc.so_reuseport", int(shares_port)),
    )


@asynccontextmanager
async def entrance(settings: Settings, keys: KeyStore, quotas: Quotas) -> AsyncIterator[Gate]:
    """Return the gate that callers pass."""
    asks = settings.auth_mode is AuthMode.REQUIRED
    per_caller = settings.max_streams_per_caller
    if per_caller is None:
        per_caller = _STREAMS_PER_CALLER if asks else 0
    limits = StreamLimits(settings.max_streams, per_caller, settings.max_streams_per_connection)
    async with AsyncExitStack() as stack:
        authenticator = await _authenticator(stack, settings, keys) if asks else None
        yield Gate(authenticator, Streams(limits, authenticator, age_seconds=settings.stream_seconds), quotas)


async def _authenticator(stack: AsyncExitStack, settings: Settings, keys: KeyStore) -> Authenticator:
    tokens = None
    if settings.auth_jwt_jwks_url is not None:
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=5))
        tokens = _tokens(settings, settings.auth_jwt_jwks_url, http)
    identities = {
        name: Principal(identity.tenant, identity.subject, identity.subject, identity.roles)
        for name, identity in settings.auth_certificates.items()
    }
    return Authenticator(Keys(keys), tokens, Certificates(identities) if identities else None)


def _tokens(settings: Settings, jwks_url: str, http: httpx.AsyncClient) -> "Tokens":
    from agent_runtime_server.auth.jwks import Jwks  # they take long to load, and few need them
    from agent_runtime_server.auth.tokens import Rules, Tokens

    if not settings.auth_jwt_issuer or not settings.auth_jwt_audience:
        raise ValueError(
            "tokens need AGENT_RUNTIME_AUTH_JWT_ISSUER and AGENT_RUNTIME_AUTH_JWT_AUDIENCE beside the JWKS URL"
        )
    rules = Rules(
        issuer=settings.auth_jwt_issuer,
        audience=settings.auth_jwt_audience,
        tenant_claim=settings.auth_jwt_tenant_claim,
        subject_claim=settings.auth_jwt_subject_claim,
        roles_claim=settings.auth_jwt_roles_claim,
        tenant=settings.auth_jwt_tenant,
    )
    return Tokens(rules, Jwks(jwks_url, http))


def listen(server: grpc.aio.Server, settings: Settings, host: str, port: int) -> int:
    """Return the port the server listens on, with TLS where there is a certificate."""
    address = f"{host}:{port}"
    files = tls_files(settings)
    try:
        if files is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, server_credentials(files))
    except RuntimeError as error:
        raise OSError(f"cannot listen on {address}: is something else there? choose another --port") from error


def tls_files(settings: Settings) -> TlsFiles | None:
    """Return where the certificate and its key lie, None without TLS."""
    chain, key, client_ca = settings.tls_cert_file, settings.tls_key_file, settings.tls_client_ca_file
    if chain is None and key is None and client_ca is None:
        return None
    if chain is None or key is None:
        raise ValueError("TLS needs both AGENT_RUNTIME_TLS_CERT_FILE and AGENT_RUNTIME_TLS_KEY_FILE")
    return TlsFiles(chain, key, client_ca)


def check_address(settings: Settings, host: str, *, insecure: bool) -> None:
    """Refuse to be reachable from outside by whoever likes, unless that is wanted."""
    missing = [
        *([] if tls_files(settings) else ["AGENT_RUNTIME_TLS_CERT_FILE and AGENT_RUNTIME_TLS_KEY_FILE"]),
        *([] if settings.auth_mode is AuthMode.REQUIRED else ["AGENT_RUNTIME_AUTH_MODE=required"]),
    ]
    if missing and not insecure and not _is_loopback(host):
        raise ValueError(
            f"--host {host} is reachable from outside: set {' and '.join(missing)}, or say --insecure to do without"
        )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
