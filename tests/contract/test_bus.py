"""Replicas tell each other what is new, over a real Valkey that may go away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import Redis

from agent_runtime_server.stores.redis.bus import RedisBus
from enginekit.turns import until_true


@asynccontextmanager
async def bus(url: str, sender: str) -> AsyncIterator[RedisBus]:
    async with Redis.from_url(url) as client, asyncio.TaskGroup() as tasks:
        made = RedisBus(client, sender)
        running = tasks.create_task(made.run())
        yield made
        running.cancel()


async def heard_by(listener: RedisBus, speaker: RedisBus, topic: str) -> asyncio.Queue[bytes]:
    """Listen to a topic; return when what is said there is heard."""
    heard: asyncio.Queue[bytes] = asyncio.Queue()
    listener.listen(topic, heard.put_nowait)
    while True:
        speaker.publish(topic, b"anybody there?")
        try:
            async with asyncio.timeout(0.1):
                await heard.get()
        except TimeoutError:
            continue
        break
    speaker.publish(topic, b"good")
    while await heard.get() != b"good":
        pass
    return heard


async def sent(admin: "Redis") -> int:
    """Return how many messages this Redis was given so far."""
    execute: Any = admin.execute_command
    calls: int = (await execute("INFO", "commandstats")).get("cmdstat_spublish", {"calls": 0})["calls"]
    return calls


async def test_what_one_says_the_others_hear_in_order(redis_url: str) -> None:
    async with bus(redis_url, "a") as one, bus(redis_url, "b") as other:
        heard = await heard_by(other, one, "s1")
        for number in range(1000):
            one.publish("s1", b"%d" % number)
        assert [await heard.get() for _ in range(1000)] == [b"%d" % number for number in range(1000)]


async def test_nobody_hears_itself_or_what_it_does_not_listen_to(redis_url: str) -> None:
    async with bus(redis_url, "a") as one, bus(redis_url, "b") as other:
        mine: asyncio.Queue[bytes] = asyncio.Queue()
        one.listen("s1", mine.put_nowait)
        heard = await heard_by(other, one, "s1")
        one.publish("s2", b"elsewhere")
        one.publish("s1", b"here")
        assert await heard.get() == b"here"
        assert mine.empty()


async def test_who_stops_listening_hears_no_more(redis_url: str) -> None:
    async with bus(redis_url, "a") as one, bus(redis_url, "b") as other:
        quiet = await heard_by(other, one, "s1")
        heard = await heard_by(other, one, "s2")
        other.unlisten("s1")
        one.publish("s1", b"lost")
        one.publish("s2", b"kept")
        assert await heard.get() == b"kept"
        assert quiet.empty()


async def test_who_is_alone_sends_nothing_until_another_comes(redis_url: str) -> None:
    async with bus(redis_url, "a") as one, Redis.from_url(redis_url) as admin:
        await until_true(lambda: one.alone)
        before = await sent(admin)
        one.publish("s1", b"to nobody")
        async with bus(redis_url, "b") as other:
            await until_true(lambda: not one.alone)
            hello = 1
            assert await sent(admin) == before + hello
            heard = await heard_by(other, one, "s1")
            assert heard.empty()


async def test_what_no_other_listens_to_is_sent_no_more_until_one_says_something_there(redis_url: str) -> None:
    async with bus(redis_url, "a") as one, bus(redis_url, "b") as other, Redis.from_url(redis_url) as admin:
        mine: asyncio.Queue[bytes] = asyncio.Queue()
        one.listen("s1", mine.put_nowait)
        async with asyncio.timeout(20):
            while True:  # until it knows that nobody listens
                before = await sent(admin)
                one.publish("s1", b"to nobody")
                await heard_by(other, one, "s2")  # by now that has left, if it was sent
                if await sent(admin) - before == 2:
                    break
            heard: asyncio.Queue[bytes] = asyncio.Queue()
            other.listen("s1", heard.put_nowait)
            other.publish("s1", b"is somebody there?")
            assert await mine.get() == b"is somebody there?"
            one.publish("s1", b"yes")
            assert await heard.get() == b"yes"


async def test_a_message_that_cannot_be_read_harms_nobody(redis_url: str) -> None:
    async with bus(redis_url, "a") as one, bus(redis_url, "b") as other:
        heard = await heard_by(other, one, "s1")
        numbers: list[int] = []
        other.listen("s2", lambda message: numbers.append(int(message)))
        one.publish("s1", b"before")
        assert await heard.get() == b"before"
        await heard_by(other, one, "s3")  # by now the other topic is heard too
        one.publish("s2", b"no number")
        one.publish("s1", b"behind")
        assert await heard.get() == b"behind"


async def test_it_comes_back_when_redis_does(redis_url: str) -> None:
    async with bus(redis_url, "a") as one, bus(redis_url, "b") as other, Redis.from_url(redis_url) as admin:
        heard = await heard_by(other, one, "s1")
        execute: Any = admin.execute_command
        await execute("CLIENT", "KILL", "TYPE", "pubsub")
        await execute("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        said = 0
        async with asyncio.timeout(20):
            while heard.empty():
                said += 1
                one.publish("s1", b"%d" % said)
                await asyncio.sleep(0.02)
        assert await heard.get()
