"""Planted secrets: what opens a door never shows up in logs, events, errors, metrics or states, whatever goes wrong."""

import asyncio
import re
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import grpc
import pytest
from grpc_health.v1 import health_pb2

from agent_runtime import v1
from agent_runtime_server.app import SERVICES
from agent_runtime_server.commands.serve import serve
from agent_runtime_server.embedded import embedded, scratch_state_dir
from agent_runtime_server.mockllm.server import MockServer, mock_server
from agent_runtime_server.telemetry import logs
from servicekit.issuer import AUDIENCE, ISSUER, issuing
from servicekit.keys import keys_of
from servicekit.model import says
from servicekit.ports import free_port
from servicekit.process import ServerProcess
from servicekit.service import Service

MODEL_KEY = "planted-model-key-7Qx9"
DATABASE_PASSWORD = "planted-db-word-3Kf8"
REDIS_PASSWORD = "planted-redis-word-5Tz2"
USERS_OWN = "sk-mine-and-left-alone"


@dataclass
class World:
    """A server with secrets, and everything it said."""

    server: ServerProcess
    model: MockServer
    metrics_port: int
    keys: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    @property
    def planted(self) -> list[str]:
        """The part of each secret that must not be seen; ids of keys and claims of tokens are no secrets."""
        opens = [key.rpartition("_")[2] for key in self.keys] + [token.rpartition(".")[2] for token in self.tokens]
        return [MODEL_KEY, DATABASE_PASSWORD, REDIS_PASSWORD, *opens]

    async def call(self, token: str, rpc: str = "SessionService/ListSessions", request: bytes = b"") -> None:
        """Make a call and keep what is answered."""
        service = Service(self.server.target)
        channel: Any = service.channel
        async with channel:
            try:
                answer = await channel.unary_unary(f"/agent_runtime.v1.{rpc}")(
                    request, metadata=(("authorization", token),)
                )
                self.said.append(repr(answer))
            except grpc.aio.AioRpcError as error:
                self.said.append(f"{error!r} {error.trailing_metadata()}")


@pytest.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    with scratch_state_dir() as state_dir:
        async with embedded(state_dir) as servers, mock_server() as model, issuing() as issuer:
            settings = {
                "AGENT_RUNTIME_LOG_LEVEL": "DEBUG",
                "AGENT_RUNTIME_AUTH_MODE": "required",
                "AGENT_RUNTIME_AUTH_JWT_JWKS_URL": issuer.url,
                "AGENT_RUNTIME_AUTH_JWT_ISSUER": ISSUER,
                "AGENT_RUNTIME_AUTH_JWT_AUDIENCE": AUDIENCE,
                "AGENT_RUNTIME_DATABASE_URL": with_password(servers.database_url, DATABASE_PASSWORD),
                # It asks for no password, and refuses whoever brings one.
                "AGENT_RUNTIME_REDIS_URL": with_password(servers.redis_url, REDIS_PASSWORD),
                "AGENT_RUNTIME_LLM_BASE_URL": model.base_url,
                "AGENT_RUNTIME_LLM_API_KEY": MODEL_KEY,
            }
            metrics_port = free_port()
            server = ServerProcess(state_dir, settings, "--metrics-port", str(metrics_port))
            await server.start()
            world = World(server, model, metrics_port)
            async with keys_of(server) as ring:
                world.keys += [await ring.new("acme", "ann"), await ring.new("acme", "ann", seconds=-1)]
            world.tokens += [issuer.token(), issuer.token(exp=1), issuer.token(aud="another")]
            try:
                yield world
            finally:
                await server.stop()


def with_password(url: str, password: str) -> str:
    """Return a URL with a password in it."""
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user}:{password}@{host}"))


async def test_no_secret_is_ever_said(world: World) -> None:
    good = f"Bearer {world.keys[0]}"
    for credential in (*world.keys, *world.tokens, world.keys[0][:-1], world.tokens[0][:-4]):
        for scheme in ("Bearer", "bearer", "Basic", ""):
            await world.call(f"{scheme} {credential}")
    for rpc in ("SystemService/GetServerStatus", "AgentService/ListAgents", "SessionService/GetSession"):
        await world.call(good, rpc, b"\xff\xff\xff")
        await world.call(good, rpc)
    await _turns(world)
    await _health(world)
    metrics = await asyncio.to_thread(_metrics, world.metrics_port)
    assert "agent_runtime_loaded_sessions_bytes" in metrics
    log = world.server._log.read_text("utf-8", errors="replace")
    everything = "\n".join([*world.said, metrics, log])
    assert [secret for secret in world.planted if secret in everything] == []
    assert USERS_OWN in everything, "what users say is theirs and stays as it was"
    assert any(entry.authorized for entry in world.model.journal)


async def _turns(world: World) -> None:
    """Play a turn that goes well, and one whose model refuses the key and repeats it, as some do."""
    refusal = f"Incorrect API key provided: {MODEL_KEY}. You sent the header Authorization: Bearer {MODEL_KEY}"
    rules: list[dict[str, Any]] = [
        {"match": {"last_user": "be refused"}, "fault": {"kind": "status", "status": 401, "message": refusal}},
        says("Well."),
    ]
    world.model.use(rules)
    service = Service(world.server.target, world.keys[0])
    async with service.channel, service.chat(await service.new_session()) as chat:
        await chat.say(f"my key is {USERS_OWN}")
        await chat.finished()
        await chat.say("be refused")
        assert (await chat.finished(1)).state == v1.TURN_STATE_FAILED
        world.said.append(str(chat.frames))


async def _health(world: World) -> None:
    service = Service(world.server.target)
    async with service.channel:
        for name in ("", *SERVICES, "dependency.postgres", "dependency.redis", "dependency.llm"):
            world.said.append(str(await service.health.Check(health_pb2.HealthCheckRequest(service=name))))


def _metrics(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        text: str = answer.read().decode()
        return text


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://agent:{DATABASE_PASSWORD}@127.0.0.1:1/agents",
        f"postgresql://agent:{DATABASE_PASSWORD}@127.0.0.1:port/agents",
        f"postgresql://agent:{DATABASE_PASSWORD}:x@[::1/agents",
        f"nonsense {DATABASE_PASSWORD}",
    ],
)
def test_a_database_that_cannot_be_reached_is_told_without_its_password(
    url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logs, "configure", lambda _level: None)  # whose stream would be closed with this test
    monkeypatch.setenv("AGENT_RUNTIME_DATABASE_URL", url)
    monkeypatch.setenv("AGENT_RUNTIME_REDIS_URL", f"redis://:{REDIS_PASSWORD}@127.0.0.1:1/0")
    with pytest.raises(SystemExit) as caught:
        serve(port=0, metrics_port=0)
    said = capfd.readouterr()
    assert not re.search("planted", f"{caught.value} {said.out} {said.err}")
