"""Signed tokens: which are taken, whose they are, and how seldom the issuer is asked."""

import asyncio
import base64
import hmac
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from joserfc.jwk import ECKey

from agent_runtime_server.auth.jwks import Jwks
from agent_runtime_server.auth.tokens import Rules, Tokens
from agent_runtime_server.core.errors import CallerError, DependencyError
from agent_runtime_server.core.principal import Role
from servicekit.issuer import AUDIENCE, ISSUER, Issuer, issuing

RULES = Rules(ISSUER, AUDIENCE)


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    async with issuing() as issuer:
        yield issuer


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient() as client:
        yield client


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(issuer: Issuer, http: httpx.AsyncClient, clock: Clock) -> Tokens:
    return Tokens(RULES, Jwks(issuer.url, http, clock))


async def refusal(tokens: Tokens, token: str) -> str:
    with pytest.raises(CallerError) as caught:
        await tokens.principal(token)
    assert caught.value.wire_reason == "CREDENTIALS_INVALID"
    assert token not in str(caught.value)
    return str(caught.value)


async def test_a_token_says_whose_it_is(tokens: Tokens, issuer: Issuer) -> None:
    who = await tokens.principal(issuer.token(name="Ann Example"))
    assert (who.tenant, who.subject, who.display_name) == ("acme", "ann", "Ann Example")
    assert who.roles == {Role.USER, Role.REVIEWER}
    assert who.expires is not None


async def test_claims_are_found_where_the_settings_say(issuer: Issuer, http: httpx.AsyncClient) -> None:
    rules = replace(
        RULES, tenant_claim="https://x.example/org", subject_claim="user.id", roles_claim="realm.roles", tenant="usual"
    )
    tokens = Tokens(rules, Jwks(issuer.url, http))
    claims: dict[str, Any] = {"user": {"id": "u1"}, "realm": {"roles": "operator user"}}
    who = await tokens.principal(issuer.token(**(claims | {"https://x.example/org": "beta"})))
    assert (who.tenant, who.subject) == ("beta", "u1")
    assert who.roles == {Role.OPERATOR, Role.USER}
    assert (await tokens.principal(issuer.token(**claims))).tenant == "usual"


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "https://evil.example"}, {"iss": None}, {"aud": "another"}, {"aud": None}, {"exp": 1}, {"exp": None},
        {"exp": "soon"}, {"nbf": 9_999_999_999}, {"tenant": None}, {"tenant": "a/b"}, {"tenant": ["acme"]},
        {"sub": None}, {"sub": ""}, {"sub": "x" * 257},
    ],
    ids=str,
)  # fmt: skip
async def test_a_claim_that_is_not_as_it_must_be(tokens: Tokens, issuer: Issuer, claims: dict[str, Any]) -> None:
    await refusal(tokens, issuer.token(**claims))


async def test_the_audience_may_be_one_of_several(tokens: Tokens, issuer: Issuer) -> None:
    assert (await tokens.principal(issuer.token(aud=["another", AUDIENCE]))).tenant == "acme"


async def test_a_token_without_roles_may_nothing(tokens: Tokens, issuer: Issuer) -> None:
    assert (await tokens.principal(issuer.token(roles=None))).roles == frozenset()


async def test_what_another_signed_is_refused(tokens: Tokens, issuer: Issuer) -> None:
    other = ECKey.generate_key("P-256", {"kid": "key-1"})
    await refusal(tokens, issuer.token(key=other))


async def test_a_public_key_is_no_shared_secret(tokens: Tokens, issuer: Issuer) -> None:
    _, claims, _ = issuer.token().split(".")
    header = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"key-1"}').decode().rstrip("=")
    signature = hmac.digest(issuer.keys[-1].as_pem(private=False), f"{header}.{claims}".encode(), "sha256")
    await refusal(tokens, f"{header}.{claims}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}")


@pytest.mark.parametrize("token", ["a.b.c", "..", "é.é.é", "x" * 9000, "eyJhbGciOiJub25lIn0.e30."], ids=lambda t: t[:9])
async def test_what_is_no_token_is_refused(tokens: Tokens, token: str) -> None:
    await refusal(tokens, token)


async def test_the_keys_are_read_once_for_many(tokens: Tokens, issuer: Issuer) -> None:
    made = [issuer.token(sub=f"s{number}") for number in range(50)]
    await asyncio.gather(*(tokens.principal(token) for token in made))
    assert issuer.reads == 1


async def test_a_new_key_is_found_and_the_old_one_dropped(tokens: Tokens, issuer: Issuer, clock: Clock) -> None:
    old = issuer.token(sub="old")
    await tokens.principal(issuer.token())
    issuer.rotate()
    clock.now += 11
    assert (await tokens.principal(issuer.token())).subject == "ann"
    await refusal(tokens, old)


async def test_unknown_keys_do_not_make_the_issuer_busy(tokens: Tokens, issuer: Issuer, clock: Clock) -> None:
    await tokens.principal(issuer.token())
    for _ in range(3):
        for number in range(20):
            await refusal(tokens, issuer.token(key=ECKey.generate_key("P-256", {"kid": f"unknown-{number}"})))
        clock.now += 10
    assert issuer.reads <= 4


async def test_an_issuer_that_is_away_for_a_while_is_done_without(tokens: Tokens, issuer: Issuer, clock: Clock) -> None:
    await tokens.principal(issuer.token())
    issuer.up = False
    clock.now += 1000
    assert (await tokens.principal(issuer.token(sub="ben"))).subject == "ben"
    clock.now += 3600
    with pytest.raises(DependencyError):
        await tokens.principal(issuer.token(sub="cas"))


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"keys": []}', b'{"keys": [1]}', b"x" * (2 << 20)], ids=len)
async def test_keys_that_cannot_be_read(tokens: Tokens, issuer: Issuer, body: bytes) -> None:
    issuer.body = body
    with pytest.raises(DependencyError) as caught:
        await tokens.principal(issuer.token())
    assert caught.value.retry_delay is not None
