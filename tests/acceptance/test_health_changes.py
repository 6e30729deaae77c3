"""Health while dependencies come and go: each tells its own state, and only Postgres decides about serving."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from grpc_health.v1 import health_pb2

from agent_runtime import v1
from agent_runtime_server.app import SERVICES
from agent_runtime_server.embedded import embedded, scratch_state_dir
from servicekit.process import ServerProcess, serving
from servicekit.service import Service

UP, DOWN = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


@asynccontextmanager
async def watching(service: Service, name: str) -> AsyncIterator[Any]:
    """Watch a name; `await said()` is the next state it is told to have."""
    call = service.health.Watch(health_pb2.HealthCheckRequest(service=name))

    async def said() -> int:
        async with asyncio.timeout(30):
            return int((await call.read()).status)

    yield said
    call.cancel()


async def state(service: Service, name: str) -> int:
    return int((await service.health.Check(health_pb2.HealthCheckRequest(service=name))).status)


@pytest.fixture
async def world() -> AsyncIterator[tuple[Service, ServerProcess, Any]]:
    """A server whose Redis a test can stop."""
    with scratch_state_dir() as apart:
        redis = embedded(apart, want_postgres=False)
        settings = {"AGENT_RUNTIME_REDIS_URL": (await redis.__aenter__()).redis_url}
        async with serving(settings) as server:
            service = Service(server.target)
            async with service.channel:
                yield service, server, redis


async def test_a_lost_dependency_tells_of_itself_alone(world: tuple[Service, ServerProcess, Any]) -> None:
    service, _, redis = world
    async with watching(service, "dependency.redis") as said, watching(service, "") as whole:
        assert (await said(), await whole()) == (UP, UP)
        await redis.__aexit__(None, None, None)
        assert await said() == DOWN
        for name in ("", *SERVICES, "dependency.postgres", "dependency.background", "liveness"):
            assert await state(service, name) == UP, name
        status = await service.system.GetServerStatus(v1.GetServerStatusRequest())
        found = {one.name: one for one in status.dependencies}
        assert set(found) == {"postgres", "redis", "llm", "background"}
        assert (found["redis"].state, found["redis"].required) == (v1.DEPENDENCY_STATE_DOWN, False)
        assert found["redis"].message
        assert found["redis"].HasField("check_time")
        assert (found["postgres"].state, found["postgres"].required) == (v1.DEPENDENCY_STATE_UP, True)
        assert await service.new_session(), "everything durable goes on"
