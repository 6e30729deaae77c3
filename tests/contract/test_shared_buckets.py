"""The buckets in Redis are those of the core, shared: the same draws have the same answers."""

import asyncio
from collections.abc import AsyncIterator
from random import Random

import pytest
from redis.asyncio import Redis

from agent_runtime_server.core.buckets import Buckets, Draw, Drawn, Rate
from agent_runtime_server.core.errors import StoreUnavailable
from agent_runtime_server.stores.redis.buckets import RedisBuckets

RATES = {
    "turns": Rate(10, 60_000, 10),
    "requests": Rate(7, 1000, 3),
    "tokens": Rate(999_983, 86_400_000, 50_000_000),
    "others": Rate(1, 3_600_000, 2),
}


@pytest.fixture
async def buckets(redis_url: str) -> AsyncIterator[RedisBuckets]:
    async with Redis.from_url(redis_url) as client:
        yield RedisBuckets(client)


@pytest.mark.parametrize("seed", range(6))
async def test_both_count_the_same_way(buckets: RedisBuckets, seed: int) -> None:
    random, ours, now = Random(seed), Buckets(), 1_760_000_000_000
    refused = 0
    for _ in range(250):
        now += random.choice([0, 0, 1, 13, 400, 6_000, 60_000, -500])
        draws = [
            Draw(f"same-{seed}-{name}", RATES[name], random.choice([0, 1, 1, 2, 200]), random.choice([None, 1, 1, 5]))
            for name in random.sample([*RATES], random.randint(1, len(RATES)))
        ]
        answer = ours.take(draws, now)
        assert await buckets.take(draws, now) == answer, draws
        refused += answer.refused is not None
    assert 20 < refused < 230


async def test_callers_at_once_do_not_pass_the_bound(buckets: RedisBuckets) -> None:
    both = [Draw("bound-user", Rate(1, 3_600_000, 50)), Draw("bound-tenant", Rate(1, 3_600_000, 10))]
    answers = await asyncio.gather(*(buckets.take(both) for _ in range(40)))
    assert sum(answer == Drawn() for answer in answers) == 10
    assert {answer.refused for answer in answers} == {None, 1}
    # All or nothing: what the one refused was not taken from the other.
    user = [both[0]]
    assert sum(answer == Drawn() for answer in await asyncio.gather(*(buckets.take(user) for _ in range(60)))) == 40


async def test_waiting_as_long_as_told_is_enough_by_the_servers_time(buckets: RedisBuckets) -> None:
    draw = [Draw("wait", Rate(1, 100, 1))]
    assert await buckets.take(draw) == Drawn()
    wait = (await buckets.take(draw)).wait_ms
    assert 0 < wait <= 100
    await asyncio.sleep(wait / 1000)
    assert await buckets.take(draw) == Drawn()


async def test_full_buckets_are_not_kept(buckets: RedisBuckets, redis_url: str) -> None:
    draw = Draw("kept", Rate(1, 10, 1))
    async with Redis.from_url(redis_url) as client:
        await buckets.take([draw])
        (key,) = await client.keys("*kept*")
        assert 0 < await client.pttl(key) <= 60_010
        now = 10_000 + int((await client.time())[0]) * 1000
        await buckets.take([Draw("kept", draw.rate, 0)], now)
        assert await client.keys("*kept*") == []


async def test_a_redis_that_is_away_is_said_to_be() -> None:
    async with Redis.from_url("redis://127.0.0.1:1") as client:
        with pytest.raises(StoreUnavailable, match="Redis is unavailable"):
            await RedisBuckets(client).take([Draw("gone", Rate(1, 1, 1))])
