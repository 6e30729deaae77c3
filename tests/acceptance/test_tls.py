"""A server with TLS: whom certificates and tokens name, and certificates that are replaced while it runs."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from agent_runtime import v1
from agent_runtime_client import Client
from servicekit.certificates import Authority, Pair, channel_credentials
from servicekit.issuer import AUDIENCE, ISSUER, Issuer, issuing
from servicekit.process import ServerProcess, serving
from servicekit.service import Service, reason_of

IDENTITIES = {
    "spiffe://acme/bot": {"tenant": "acme", "subject": "bot", "roles": ["user"]},
    "desk.acme": {"tenant": "acme", "subject": "desk", "roles": ["reviewer"]},
}


@dataclass(frozen=True)
class World:
    """A server with TLS that wants certificates of its clients."""

    server: ServerProcess
    authority: Authority
    folder: Path
    issuer: Issuer

    def connect(self, shown: Pair | None, token: str | None = None, trusted: Authority | None = None) -> Service:
        """Reach the server."""
        credentials = channel_credentials(trusted or self.authority, shown)
        return Service(self.server.target, token, channel_credentials=credentials)

    def replace(self, pair: Pair) -> None:
        """Give the server another certificate."""
        pair.write(self.folder / "chain.pem", self.folder / "key.pem")


@pytest.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder, authority = tmp_path_factory.mktemp("tls"), Authority()
    authority.server().write(folder / "chain.pem", folder / "key.pem")
    (folder / "ca.pem").write_bytes(authority.pem)
    async with issuing() as issuer:
        settings = {
            "AGENT_RUNTIME_AUTH_MODE": "required",
            "AGENT_RUNTIME_AUTH_CERTIFICATES": json.dumps(IDENTITIES),
            "AGENT_RUNTIME_AUTH_JWT_JWKS_URL": issuer.url,
            "AGENT_RUNTIME_AUTH_JWT_ISSUER": ISSUER,
            "AGENT_RUNTIME_AUTH_JWT_AUDIENCE": AUDIENCE,
            "AGENT_RUNTIME_TLS_CERT_FILE": str(folder / "chain.pem"),
            "AGENT_RUNTIME_TLS_KEY_FILE": str(folder / "key.pem"),
            "AGENT_RUNTIME_TLS_CLIENT_CA_FILE": str(folder / "ca.pem"),
        }
        async with serving(settings) as server:
            yield World(server, authority, folder, issuer)


async def reached(service: Service) -> str:
    """Return how a call ends."""
    async with service.channel, asyncio.timeout(30):
        try:
            await service.sessions.ListSessions(v1.ListSessionsRequest())
        except grpc.aio.AioRpcError as error:
            return reason_of(error)[0] or error.code().name
    return "OK"


async def test_a_certificate_says_who_calls(world: World) -> None:
    bot = world.connect(world.authority.client("whoever", "spiffe://acme/bot"))
    async with bot.channel, bot.chat(await bot.new_session()) as chat:
        await chat.say("list")
        assert (await chat.event("user_message")).actor.subject == "bot"
    desk = world.connect(world.authority.client("desk.acme"))
    async with desk.channel, desk.review() as review:
        await review.frame("caught_up")
        assert review.reviewer == "desk"
    assert await reached(world.connect(world.authority.client("desk.acme"))) == "OK"


async def test_a_certificate_of_nobody_known_is_refused(world: World) -> None:
    assert await reached(world.connect(world.authority.client("stranger"))) == "CREDENTIALS_INVALID"


async def test_a_token_counts_before_the_certificate(world: World) -> None:
    shown = world.authority.client("desk.acme")
    service = world.connect(shown, world.issuer.token(sub="ann"))
    async with service.channel, service.review() as review:
        await review.frame("caught_up")
        assert review.reviewer == "ann"
    assert await reached(world.connect(shown, world.issuer.token(aud="another"))) == "CREDENTIALS_INVALID"


async def test_who_shows_no_good_certificate_does_not_come_in(world: World) -> None:
    assert await reached(world.connect(None)) == "UNAVAILABLE"
    assert await reached(world.connect(Authority().client("desk.acme"))) == "UNAVAILABLE"
    assert await reached(world.connect(None, trusted=Authority())) == "UNAVAILABLE"
    assert await reached(Service(world.server.target)) == "UNAVAILABLE"


async def test_the_terminal_and_the_library_come_in(world: World, tmp_path: Path) -> None:
    shown = world.authority.client("desk.acme")
    credentials = channel_credentials(world.authority, shown)
    async with Client(world.server.target, credentials=credentials, token=world.issuer.token) as client:
        assert (await client.create_session()).owner.subject == "ann"
    shown.write(tmp_path / "chain.pem", tmp_path / "key.pem")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "agent_runtime_cli", "sessions", "--target", world.server.target),
        *("--tls-ca", world.folder / "ca.pem", "--tls-cert", tmp_path / "chain.pem", "--tls-key", tmp_path / "key.pem"),
        env={**os.environ, "AGENT_RUNTIME_TOKEN": world.issuer.token()},
        stdout=asyncio.subprocess.PIPE,
    )
    listed, _ = await process.communicate()
    assert (process.returncode, listed.count(b"session-") > 0) == (0, True)


async def test_a_replaced_certificate_is_used_for_the_next_connection(world: World) -> None:
    shown = world.authority.client("whoever", "spiffe://acme/bot")
    service = world.connect(shown)
    async with service.channel, service.chat(await service.new_session()) as chat:
        await chat.caught_up()
        newer = Authority("the next authority")
        world.replace(newer.server())
        try:
            assert await reached(world.connect(shown, trusted=newer)) == "OK"
            assert await reached(world.connect(shown)) == "UNAVAILABLE"
            (world.folder / "key.pem").write_bytes(newer.server().key)
            assert await reached(world.connect(shown, trusted=newer)) == "OK", "the key is another's"
            assert (await chat.say("list")).outcome == v1.FrameAck.OUTCOME_ACCEPTED
        finally:
            world.replace(world.authority.server())
    assert await reached(world.connect(shown)) == "OK"
