"""Signed tokens (JWT): whose they are, by the claims that the settings name."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from joserfc import jws, jwt
from joserfc.errors import ExpiredTokenError, JoseError

from agent_runtime_server.auth.errors import credentials_invalid, expired
from agent_runtime_server.auth.jwks import Jwks
from agent_runtime_server.auth.remembered import Remembered
from agent_runtime_server.core.principal import Principal, Role, is_subject, is_tenant

ALGORITHMS: Final = (
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
    "Ed25519",
)
"""What may sign a token: only what has a public key, so that nobody signs with what everybody can read."""

_FRESH_SECONDS: Final = 60.0
_LONGEST: Final = 8192
_LEEWAY_SECONDS: Final = 30


@dataclass(frozen=True, slots=True)
class Rules:
    """What a token must say, and where it says whose it is; dots lead into nested claims."""

    issuer: str
    audience: str
    tenant_claim: str = "tenant"
    subject_claim: str = "sub"
    roles_claim: str = "roles"
    name_claim: str = "name"
    tenant: str = ""
    """The tenant of tokens that name none."""


class Tokens:
    """Knows callers by tokens that an issuer signed."""

    def __init__(self, rules: Rules, jwks: Jwks, *, clock: Callable[[], float] = time.time) -> None:
        self._rules = rules
        self._jwks = jwks
        self._clock = clock
        self._remembered = Remembered(self._verify, _FRESH_SECONDS)
        self._claims = jwt.JWTClaimsRegistry(
            now=lambda: int(clock()),
            leeway=_LEEWAY_SECONDS,
            iss={"essential": True, "value": rules.issuer},
            aud={"essential": True, "value": rules.audience},
            exp={"essential": True},
        )

    async def principal(self, token: str) -> Principal:
        """Return whose token this is; raises CREDENTIALS_INVALID, or DEPENDENCY_UNAVAILABLE when it cannot be told."""
        if len(token) > _LONGEST:
            raise credentials_invalid(f"the token is longer than {_LONGEST} bytes")
        found = await self._remembered.principal(token)
        assert found is not None, "a token that is not good raises"
        if found.expires is not None and found.expires <= self._clock():
            raise expired()
        return found

    async def _verify(self, token: str) -> Principal:
        try:
            kid = jws.extract_compact(token.encode()).headers().get("kid")
            keys = await self._jwks.keys(kid if isinstance(kid, str) else None)
            claims = jwt.decode(token, keys, algorithms=ALGORITHMS).claims
            self._claims.validate(claims)
        except ExpiredTokenError as error:
            raise expired() from error
        except (JoseError, ValueError, TypeError, KeyError) as error:
            raise credentials_invalid(f"the token is not accepted ({type(error).__name__})") from error
        return self._mapped(claims)

    def _mapped(self, claims: Mapping[str, Any]) -> Principal:
        rules = self._rules
        tenant = _claim(claims, rules.tenant_claim) or rules.tenant
        subject = _claim(claims, rules.subject_claim)
        if not isinstance(tenant, str) or not is_tenant(tenant):
            raise credentials_invalid(f"the token's claim {rules.tenant_claim!r} names no tenant")
        if not isinstance(subject, str) or not is_subject(subject):
            raise credentials_invalid(f"the token's claim {rules.subject_claim!r} names no subject")
        name = _claim(claims, rules.name_claim)
        display_name = name[:256] if isinstance(name, str) else ""
        expires = float(claims["exp"]) + _LEEWAY_SECONDS
        return Principal(tenant, subject, display_name, _roles(_claim(claims, rules.roles_claim)), expires)


def _claim(claims: Mapping[str, Any], path: str) -> Any:
    """Return a claim by its name, or by the way to it."""
    if path in claims:  # names such as https://example/roles hold dots of their own
        return claims[path]
    found: Any = claims
    for name in path.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _roles(claim: Any) -> frozenset[Role]:
    """Return the roles a claim lists, as a list or with spaces between; names that are not ours mean nothing here."""
    names = claim.split() if isinstance(claim, str) else claim if isinstance(claim, list) else []
    return frozenset(role for role in Role if role.value in names)
