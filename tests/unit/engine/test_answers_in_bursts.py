"""The answer to a frame leaves together with what the frame has brought, and holds nothing up."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from agent_runtime import v1
from agent_runtime_server.engine.feed import Feed
from enginekit.turns import turns

from .feeds import Log, tell


@asynccontextmanager
async def bursts_of(feed: Feed) -> AsyncIterator[list[list[str]]]:
    """Take bursts as they come; what had been said before the block is left out."""
    found: list[list[str]] = []

    async def take() -> None:
        async for burst in feed.bursts():
            found.append([*map(tell, burst)])  # noqa: PERF401 - seen while it goes on

    async with asyncio.TaskGroup() as group:
        task = group.create_task(take())
        await turns()
        found.clear()
        yield found
        task.cancel()


async def answered_later(feed: Feed) -> None:
    """Answer as late as a commit's answer comes behind its events."""
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    feed.answer(v1.FrameAck(seq=1))
    feed.taking = False


async def test_the_answer_to_a_frame_leaves_together_with_what_the_frame_has_brought() -> None:
    log = Log()
    feed = log.feed()
    async with bursts_of(feed) as bursts:
        feed.taking = True
        log.commit()
        await answered_later(feed)
        await turns()
    assert bursts == [["1", "FrameAck"]]


async def test_where_no_frame_is_taken_nothing_is_waited_for() -> None:
    log = Log()
    feed = log.feed()
    async with bursts_of(feed) as bursts:
        log.commit()
        await answered_later(feed)
        await turns()
    assert bursts == [["1"], ["FrameAck"]]


async def test_an_answer_that_takes_long_holds_up_nothing() -> None:
    log = Log()
    feed = log.feed()
    async with bursts_of(feed) as bursts:
        feed.taking = True
        log.commit()
        await turns()
        assert bursts == [["1"]]
        log.write("Hello")
        await turns()
    assert bursts == [["1"], ["+Hello"]]
