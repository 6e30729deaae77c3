"""A bell wakes the one who waits, and is not missed by one who comes late."""

import asyncio

import pytest

from agent_runtime_server.engine.bell import Bell


async def test_it_wakes_who_waits() -> None:
    bell = Bell()
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(bell.wait())
        await asyncio.sleep(0)
        assert not waiting.done()
        bell.ring()
        bell.ring()


async def test_who_comes_late_does_not_wait_until_it_is_silent_again() -> None:
    bell = Bell()
    bell.ring()
    await bell.wait()
    bell.silence()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(bell.wait(), 0.01)
    bell.ring()
    await bell.wait()


async def test_it_tells_whether_somebody_waits() -> None:
    bell, seen = Bell(), list[bool]()
    async with asyncio.TaskGroup() as group:
        group.create_task(bell.wait())
        seen.append(bell.waited_for)
        await asyncio.sleep(0)
        seen.append(bell.waited_for)
        bell.ring()
        seen.append(bell.waited_for)
    assert seen == [False, True, False]
