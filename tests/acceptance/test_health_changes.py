"""Health while dependencies come and go: each tells of itself within 5 s, and only Postgres decides about serving."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from aiohttp import web
from grpc_health.v1 import health_pb2

from agent_runtime import v1
from agent_runtime_server.app import SERVICES
from agent_runtime_server.embedded import scratch_state_dir
from killkit.stores import MortalStore, mortal_stores
from servicekit.process import serving
from servicekit.service import Service

UP, DOWN = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
SECONDS = 5  # within which a change has to be told
_TICKS = 20  # of a second


class Endpoint:
    """A model endpoint that says which models there are, while it is open."""

    def __init__(self) -> None:
        self.base_url = ""
        self.asked = 0
        self.failing = 0  # of the next questions, how many are answered with an error
        self._runner: web.AppRunner | None = None
        self._port = 0

    async def start(self) -> None:
        """Open it, at the same address as before."""
        application = web.Application()
        application.add_routes([web.get("/v1/models", self._models)])
        self._runner = web.AppRunner(application)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        self._port = self._runner.addresses[0][1]
        self.base_url = f"http://127.0.0.1:{self._port}/v1"

    async def kill(self) -> None:
        """Close it, with all connections."""
        assert self._runner is not None, "it was started"
        await self._runner.cleanup()

    async def _models(self, _request: web.Request) -> web.Response:
        self.asked += 1
        failing, self.failing = self.failing, max(0, self.failing - 1)
        return web.json_response({"object": "list", "data": []}, status=503 if failing else 200)


class World:
    """A server whose dependencies a test can stop and start, and everything that watching it has told."""

    def __init__(self, service: Service, postgres: MortalStore, redis: MortalStore, llm: Endpoint) -> None:
        self.service = service
        self.postgres, self.redis, self.llm = postgres, redis, llm
        self.told: defaultdict[str, list[int]] = defaultdict(list)

    async def watch(self, name: str) -> None:
        """Note every state that a name is told to have."""
        async for answer in self.service.health.Watch(health_pb2.HealthCheckRequest(service=name)):
            self.told[name].append(answer.status)

    async def state(self, name: str) -> int:
        """Return the state that a check of a name tells."""
        return int((await self.service.health.Check(health_pb2.HealthCheckRequest(service=name))).status)

    async def tells(self, name: str, state: int) -> None:
        """Check that a change that has just happened is told in time, by watching and by checking."""
        await in_time(lambda: self.told[name][-1:] == [state], f"{name} is {state}")
        assert await self.state(name) == state

    async def comes_and_goes(self, name: str, dependency: MortalStore | Endpoint) -> None:
        """Let a dependency go away and come back."""
        await dependency.kill()
        await self.tells(name, DOWN)
        await dependency.start()
        await self.tells(name, UP)


async def in_time(condition: Callable[[], bool], what: str) -> None:
    """Wait for what has to happen in time, by a clock that comes late when the machine lets all of them come late."""
    for _ in range(SECONDS * _TICKS):
        if condition():
            return
        await asyncio.sleep(1 / _TICKS)
    raise AssertionError(f"not within {SECONDS} s: {what}")


@asynccontextmanager
async def watched(world: World, *names: str) -> AsyncIterator[None]:
    """Watch names while the block runs, from what they tell first."""
    async with asyncio.TaskGroup() as tasks:
        watching = [tasks.create_task(world.watch(name)) for name in names]
        for name in names:
            await in_time(lambda name=name: bool(world.told[name]), f"{name} is told")  # type: ignore[misc]
        yield
        for task in watching:
            task.cancel()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        apart = stack.enter_context(scratch_state_dir())
        postgres, redis = await stack.enter_async_context(mortal_stores(apart))
        llm = Endpoint()
        await llm.start()
        stack.push_async_callback(llm.kill)
        settings = {
            "AGENT_RUNTIME_DATABASE_URL": postgres.url,
            "AGENT_RUNTIME_REDIS_URL": redis.url,
            "AGENT_RUNTIME_LLM_BASE_URL": llm.base_url,
        }
        service = Service((await stack.enter_async_context(serving(settings))).target)
        await stack.enter_async_context(service.channel)
        yield World(service, postgres, redis, llm)


async def test_changes_are_told_in_time_and_a_single_failure_is_none(world: World) -> None:
    everything = ("", "dependency.postgres", "dependency.redis", "dependency.llm", "dependency.background")
    async with watched(world, *everything):
        world.llm.failing, asked = 1, world.llm.asked
        await world.redis.kill()
        await world.tells("dependency.redis", DOWN)
        await lost_redis_tells_of_itself_alone(world)
        await in_time(lambda: world.llm.asked >= asked + 3, "the endpoint was asked again after its failure")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(back(world, "dependency.redis", world.redis))
            tasks.create_task(world.comes_and_goes("dependency.postgres", world.postgres))
            tasks.create_task(world.comes_and_goes("dependency.llm", world.llm))
        assert dict(world.told) == {
            "dependency.background": [UP],
            **{name: [UP, DOWN, UP] for name in ("", "dependency.postgres", "dependency.redis", "dependency.llm")},
        }


async def back(world: World, name: str, dependency: MortalStore) -> None:
    await dependency.start()
    await world.tells(name, UP)


async def lost_redis_tells_of_itself_alone(world: World) -> None:
    for name in ("", *SERVICES, "dependency.postgres", "dependency.background", "liveness"):
        assert await world.state(name) == UP, name
    status = await world.service.system.GetServerStatus(v1.GetServerStatusRequest())
    found = {one.name: one for one in status.dependencies}
    assert set(found) == {"postgres", "redis", "llm", "background"}
    assert (found["redis"].state, found["redis"].required) == (v1.DEPENDENCY_STATE_DOWN, False)
    assert found["redis"].message
    assert found["redis"].HasField("check_time")
    assert (found["postgres"].state, found["postgres"].required) == (v1.DEPENDENCY_STATE_UP, True)
    assert await world.service.new_session(), "everything durable goes on"
