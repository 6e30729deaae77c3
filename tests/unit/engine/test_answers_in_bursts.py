"""The answer to a frame leaves together with what the frame has brought, and holds nothing up."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

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


@pytest.mark.parametrize(("taking", "together"), [(True, [["1", "FrameAck"]]), (False, [["1"], ["FrameAck"]])])
async def test_only_while_a_frame_is_taken_what_it_has_brought_leaves_with_its_answer(
    taking: bool, together: list[list[str]]
) -> None:
    log = Log()
    feed = log.feed()
    async with bursts_of(feed) as bursts:
        feed.taking = taking
        log.commit()
        await answered_later(feed)
        await turns()
    assert bursts == together


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
