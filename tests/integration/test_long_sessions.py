"""A session of 20,000 events takes no more memory than one of a few thousand: neither to load, nor to replay."""

import tracemalloc
from collections.abc import AsyncIterator

import pytest

from agent_runtime import v1
from agent_runtime_server.engine.feed import Wanted
from agent_runtime_server.stores.base import StoredEvent
from enginekit.history import EVENTS_A_TURN, lengthen
from enginekit.replica import Replica, replica

EVENTS = 20_000
TEXT = "a word " * 60
MIB = 1 << 20


@pytest.fixture
async def here(database_url: str) -> AsyncIterator[Replica]:
    async with replica(database_url, runs=False) as made:
        yield made


async def peak_of_attaching(here: Replica, session_id: str) -> tuple[int, int]:
    """Load a session as a replica does that has never seen it, and replay it; return the peak, and how many came."""
    session = here.alone(session_id)
    tracemalloc.start()
    try:
        await session.load()
        count = 0
        async for item in session.audience.follow(Wanted(0)):
            if isinstance(item, v1.CaughtUp):
                break
            assert isinstance(item, StoredEvent)
            count += 1
        return tracemalloc.get_traced_memory()[1], count
    finally:
        tracemalloc.stop()


@pytest.mark.untraced  # it would take three times as long, and reaches nothing new
@pytest.mark.timeout(300)
async def test_attaching_takes_the_same_memory_however_long_the_log_is(here: Replica) -> None:
    session = await here.new_session()
    await lengthen(here.stores, session.session_id, EVENTS // EVENTS_A_TURN // 4, TEXT)
    short, _ = await peak_of_attaching(here, session.session_id)
    await lengthen(here.stores, session.session_id, EVENTS // EVENTS_A_TURN * 3 // 4, TEXT)
    long, count = await peak_of_attaching(here, session.session_id)
    assert count > EVENTS
    assert long < 1.25 * short + MIB
    assert long < 4 * MIB, "all of its events together take more"

    loaded = here.alone(session.session_id)
    await loaded.load()
    snapshot = await loaded.snapshot()
    assert snapshot is not None
    assert len(snapshot.bytes) < MIB
    await here.stores.retention.save(session.session_id, snapshot)
    with_snapshot, count = await peak_of_attaching(here, session.session_id)
    assert count > EVENTS
    assert with_snapshot < 1.25 * long + MIB
