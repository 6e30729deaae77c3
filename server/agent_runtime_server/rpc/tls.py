"""TLS with certificates that may be replaced while the server runs."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
import structlog
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

_log = structlog.get_logger(__name__)

Stamp = tuple[tuple[int, int, int], ...]

_PUBLIC: Final = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where the certificate chain, its key, and the authorities of client certificates lie, all in PEM."""

    chain: Path
    key: Path
    client_ca: Path | None = None

    def stamp(self) -> Stamp:
        """Return what changes when one of the files does."""
        files = [self.chain, self.key, *([self.client_ca] if self.client_ca else [])]
        return tuple((found.st_ino, found.st_size, found.st_mtime_ns) for found in (path.stat() for path in files))

    def read(self) -> grpc.ServerCertificateConfiguration:
        """Return what the files hold; raises OSError, and ValueError where they do not fit each other."""
        chain, key = self.chain.read_bytes(), self.key.read_bytes()
        authorities = self.client_ca.read_bytes() if self.client_ca else None
        _check_pair(chain, key)
        if authorities is not None and not x509.load_pem_x509_certificates(authorities):
            raise ValueError(f"{self.client_ca} holds no certificate")
        return grpc.ssl_server_certificate_configuration([(key, chain)], root_certificates=authorities)


def server_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """Return credentials that follow the files: the next handshake uses what they hold then.

    Files that cannot be used leave what was read before in force. With client authorities every client must show a
    certificate of theirs.
    """
    first = files.read()
    fetch: Any = _follow(files)  # its stub does not know that None leaves things as they are
    return grpc.dynamic_ssl_server_credentials(first, fetch, require_client_authentication=files.client_ca is not None)


def _follow(files: TlsFiles) -> Callable[[], grpc.ServerCertificateConfiguration | None]:
    """Return a function that reads the files when they have changed, None while they have not."""
    known = files.stamp()
    refused: Stamp | None = None

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        nonlocal known, refused
        try:
            stamp = files.stamp()
            if stamp in (known, refused):
                return None
            refused = stamp  # until they prove good
            configuration = files.read()
        except (OSError, ValueError) as error:
            _log.error("the TLS files cannot be used, the ones before stay in force", error=str(error))
            return None
        known, refused = stamp, None
        _log.info("the TLS certificate was read anew", file=str(files.chain))
        return configuration

    return fetch


def _check_pair(chain: bytes, key: bytes) -> None:
    try:
        certificate = x509.load_pem_x509_certificate(chain)
        private = load_pem_private_key(key, None)
    except (ValueError, TypeError) as error:
        raise ValueError("the TLS certificate or its key is no PEM that can be read without a password") from error
    if certificate.public_key().public_bytes(*_PUBLIC) != private.public_key().public_bytes(*_PUBLIC):
        raise ValueError("the TLS key is not that of the certificate")
