"""So many calls at a time, the tenants that wait in turn, and no place lost on the way."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

import pytest

from agent_runtime import v1
from agent_runtime_server.llm.base import Delay, Hold, ModelAnswer, ModelRequest, Sink
from agent_runtime_server.llm.resilient import Choice, Resilient
from agent_runtime_server.llm.turnstile import Turnstile


class Calls:
    """Calls that hold their place until they are told to end."""

    def __init__(self, turnstile: Turnstile) -> None:
        self.turnstile = turnstile
        self.inside: list[str] = []
        self.most = 0
        self.told = 0
        self.end = asyncio.Semaphore(0)

    @contextmanager
    def _counted(self, tenant: str) -> Iterator[None]:
        self.inside.append(tenant)
        self.most = max(self.most, len(self.inside))
        try:
            yield
        finally:
            self.inside.remove(tenant)

    def _tell(self) -> None:
        self.told += 1

    async def call(self, tenant: str, order: list[str] | None = None) -> None:
        async with self.turnstile.place(tenant, lambda: 1, self._tell):
            if order is not None:
                order.append(tenant)
            with self._counted(tenant):
                await self.end.acquire()


async def settled() -> None:
    """Let everybody go on who can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_so_many_are_inside_and_the_others_are_told_that_they_wait() -> None:
    calls = Calls(Turnstile(3))
    async with asyncio.TaskGroup() as group:
        for _ in range(10):
            group.create_task(calls.call("a"))
        await settled()
        assert (len(calls.inside), calls.turnstile.waiting, calls.told) == (3, 7, 7)
        for _ in range(10):
            calls.end.release()
    assert (calls.most, calls.turnstile.waiting) == (3, 0)


async def test_a_tenant_with_one_call_does_not_wait_for_one_with_fifty() -> None:
    calls, order = Calls(Turnstile(2)), list[str]()
    async with asyncio.TaskGroup() as group:
        for _ in range(50):
            group.create_task(calls.call("noisy", order))
        await settled()
        group.create_task(calls.call("quiet", order))
        await settled()
        for _ in range(51):
            calls.end.release()
    assert order.index("quiet") <= 4, "two were inside, and turns are taken from then on"


async def test_a_tenant_of_weight_three_is_served_three_times_as_often() -> None:
    calls, order = Calls(Turnstile(1, {"large": 3})), list[str]()
    async with asyncio.TaskGroup() as group:
        for _ in range(40):
            group.create_task(calls.call("small", order))
            group.create_task(calls.call("large", order))
        await settled()
        for _ in range(80):
            calls.end.release()
    assert 28 <= order[:40].count("large") <= 32


async def test_without_a_limit_nobody_waits() -> None:
    calls = Calls(Turnstile())
    async with asyncio.TaskGroup() as group:
        for _ in range(100):
            group.create_task(calls.call("a"))
        await settled()
        assert len(calls.inside) == 100
        for _ in range(100):
            calls.end.release()


@pytest.mark.parametrize("seed", range(5))
async def test_no_place_is_lost_whoever_gives_up_and_when(seed: int) -> None:
    random, calls = Random(seed), Calls(Turnstile(3))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(calls.call(random.choice("abc"))) for _ in range(40)]
        for _ in range(60):
            await asyncio.sleep(0)
            calls.end.release() if random.random() < 0.4 else random.choice(tasks).cancel()
        for _ in range(40):
            calls.end.release()
    assert calls.most <= 3
    after = Calls(calls.turnstile)
    async with asyncio.TaskGroup() as group:
        for _ in range(5):
            group.create_task(after.call("a"))
        await settled()
        assert len(after.inside) == 3
        for _ in range(5):
            after.end.release()


class Endpoint:
    """Answers when it is told to."""

    address = "host:1"

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answers = asyncio.Semaphore(0)

    async def answer(self, request: ModelRequest, sink: Sink | None = None) -> ModelAnswer:
        self.asked.append(request.tenant)
        await self.answers.acquire()
        return ModelAnswer("done", "", (), v1.Usage(), "stop", request.model)

    async def probe(self) -> None:
        pass

    async def aclose(self) -> None:
        pass


async def test_calls_of_a_model_take_turns_by_tenant_and_say_that_they_wait() -> None:
    endpoint, told = Endpoint(), list[Delay]()
    model = Resilient([Choice(endpoint)], turnstile=Turnstile(1))
    request = [ModelRequest("m", ({"role": "user", "content": "hello"},), tenant=tenant) for tenant in "aaaaab"]
    async with asyncio.TaskGroup() as group:
        for one in request:
            group.create_task(model.answer(one, None, told.append))
        await settled()
        assert (endpoint.asked, model.waiting) == (["a"], 5)
        for _ in request:
            endpoint.answers.release()
    assert endpoint.asked.index("b") <= 2
    assert [delay.hold for delay in told] == [Hold.THROTTLED] * 5
