"""The circuits in Redis are those of the core, shared: the same steps lead to the same state."""

import asyncio
from collections.abc import AsyncIterator
from random import Random

import pytest
from redis.asyncio import Redis

from agent_runtime_server.core.circuit import Admit, Answered, Circuit, Look, Operation, Phase, Report, Rules
from agent_runtime_server.core.errors import StoreUnavailable
from agent_runtime_server.stores.redis.circuits import RedisCircuits

RULES = Rules(window_calls=8, window_ms=10_000)


@pytest.fixture
async def circuits(redis_url: str) -> AsyncIterator[RedisCircuits]:
    async with Redis.from_url(redis_url) as client:
        yield RedisCircuits(client, RULES)


def some_step(random: Random, circuit: Circuit, names: list[str]) -> Operation:
    """Return what one of many callers may do next; their memory is not always of this epoch."""
    epoch = random.choice([circuit.epoch] * 5 + [circuit.epoch - 1])
    trial = random.choice([*circuit.trials, *names[-3:], ""])
    good = random.random() < 0.4
    names.append(f"call-{len(names)}")
    steps: list[Operation] = [
            Admit(names[-1]), Admit(names[-1]),
            Report(epoch, trial, good=int(good), bad=int(not good)), Report(epoch, trial, bad=1),
            Report(epoch, trial, good=random.choice([0, 7]), bad=random.choice([0, 1])), Report(epoch, trial),
            Look(), Answered(epoch),
        ]  # fmt: skip
    return random.choice(steps)


@pytest.mark.parametrize("seed", range(8))
async def test_both_machines_go_the_same_way(circuits: RedisCircuits, seed: int) -> None:
    random, circuit, names = Random(seed), Circuit(), [""]
    now = 1_760_000_000_000
    seen = set()
    for _ in range(250):
        now += random.choice([0, 0, 1, 400, 5_000, 30_000, 60_000])
        operation = some_step(random, circuit, names)
        answer = circuit.apply(RULES, operation, now)
        stepped = await circuits.apply(f"same-{seed}", operation, now)
        assert (stepped.answer, stepped.circuit, stepped.now) == (answer, circuit, now), operation
        seen.add(circuit.phase)
    assert seen == set(Phase)


async def test_callers_at_once_do_not_pass_the_bound(circuits: RedisCircuits) -> None:
    for _ in range(5):
        opened = await circuits.apply("bound", Report(0, bad=1))
    await circuits.apply("bound", Answered(opened.circuit.epoch))
    for successes in range(RULES.successes):
        asked = [circuits.apply("bound", Admit(f"call-{successes}-{number}")) for number in range(20)]
        let_through = [one for one in await asyncio.gather(*asked) if one.answer]
        assert len(let_through) == 1, "as many as have succeeded hold places already, and one is free"
        state = let_through[0].circuit
        trial = next(iter(state.trials))
        closing = await circuits.apply("bound", Report(state.epoch, trial, good=1))
        if closing.circuit.phase is Phase.HALF_OPEN:
            await circuits.apply("bound", Admit(f"kept-{successes}"))
    assert closing.circuit.phase is Phase.CLOSED


async def test_the_servers_time_counts(circuits: RedisCircuits, redis_url: str) -> None:
    stepped = await circuits.apply("time", Admit("a"))
    async with Redis.from_url(redis_url) as client:
        seconds, _ = await client.time()
    assert abs(stepped.now / 1000 - seconds) < 60


async def test_a_redis_that_is_away_is_said_to_be() -> None:
    async with Redis.from_url("redis://127.0.0.1:1") as client:
        with pytest.raises(StoreUnavailable, match="Redis is unavailable"):
            await RedisCircuits(client, RULES).apply("gone", Look())
