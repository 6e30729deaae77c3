"""A reader of all sessions sees every event once, in the order of commits, however many write."""

import asyncio
from random import Random

import asyncpg
import pytest

from agent_runtime_server.stores.base import FeedPlace, StoredEvent
from agent_runtime_server.stores.postgres.log import _FEED
from enginekit.stores import TENANT, Stores, opened

SESSIONS = [f"s{number}" for number in range(6)]


class Reader:
    """Polls the feed and remembers what it saw."""

    def __init__(self, stores: Stores, place: FeedPlace) -> None:
        self.seen: list[tuple[str, int]] = []
        self._stores = stores
        self._place = place

    async def poll(self, limit: int = 100) -> list[StoredEvent]:
        page, self._place = await self._stores.log.feed(TENANT, self._place, limit)
        self.seen += [(place.session_id, place.seq) for _, place in page]
        return [event for event, _ in page]


async def test_events_of_a_tenants_sessions_are_seen_once(stores: Stores) -> None:
    reader = Reader(stores, FeedPlace(0))
    await stores.new_session("s1")
    await stores.new_session("s2", tenant="tenant-2")
    await stores.append("s1", 1, count=3)
    assert [event.payload for event in await reader.poll()] == [b"s1 1", b"s1 2", b"s1 3", b"s1 4"]
    assert await reader.poll() == []
    await stores.append("s1", 4)
    assert [event.payload for event in await reader.poll()] == [b"s1 5"]


async def test_a_page_may_end_in_the_middle_of_a_transaction(stores: Stores) -> None:
    await stores.new_session("s1")
    await stores.append("s1", 1, count=4)
    reader = Reader(stores, FeedPlace(0))
    sizes = [len(await reader.poll(limit=2)) for _ in range(4)]
    assert sizes == [2, 2, 1, 0]
    assert [seq for _, seq in reader.seen] == [1, 2, 3, 4, 5]


async def test_a_reader_may_begin_with_what_comes_next(stores: Stores) -> None:
    await stores.new_session("s1")
    reader = Reader(stores, await stores.log.feed_end())
    assert await reader.poll() == []
    await stores.append("s1", 1)
    assert reader.seen == []
    await reader.poll()
    assert reader.seen == [("s1", 2)]


async def test_nothing_is_shown_that_an_open_transaction_may_still_come_before(
    stores: Stores, database_url: str
) -> None:
    await stores.new_session("s1")
    await stores.new_session("s2")
    reader = Reader(stores, await stores.log.feed_end())
    slow = await asyncpg.connect(database_url)
    async with slow.transaction():
        await slow.execute("INSERT INTO session_events (session_id, seq, kind, payload) VALUES ('s1', 2, 11, 'x')")
        await stores.append("s2", 1)
        assert await reader.poll() == [], "the slow one has the older number"
    await slow.close()
    await reader.poll()
    assert reader.seen == [("s1", 2), ("s2", 2)]


@pytest.mark.parametrize("seed", range(4))
async def test_concurrent_writers_never_make_a_reader_miss_or_repeat(
    stores: Stores, database_url: str, seed: int
) -> None:
    random = Random(seed)
    for session_id in SESSIONS:
        await stores.new_session(session_id)
    readers = [Reader(stores, FeedPlace(0)) for _ in range(2)]
    writing = True

    async def write(replica: Stores, session_id: str) -> int:
        head = 1
        for count in random.choices([1, 1, 2, 5], k=15):
            await replica.append(session_id, head, count=count)
            head += count
        return head

    async def read(reader: Reader, limit: int) -> None:
        while writing:
            await reader.poll(limit)
        while await reader.poll(limit):
            continue

    async with opened(database_url) as other, asyncio.TaskGroup() as group:
        for reader, limit in zip(readers, (3, 100), strict=True):
            group.create_task(read(reader, limit))
        writers = [group.create_task(write(random.choice([stores, other]), session_id)) for session_id in SESSIONS]
        await asyncio.wait(writers)
        writing = False
    expected = {
        (session_id, seq)
        for session_id, writer in zip(SESSIONS, writers, strict=True)
        for seq in range(1, writer.result() + 1)
    }
    for reader in readers:
        assert len(reader.seen) == len(expected)
        assert set(reader.seen) == expected
        for session_id in SESSIONS:
            seqs = [seq for seen, seq in reader.seen if seen == session_id]
            assert seqs == sorted(seqs)
    assert readers[0].seen == readers[1].seen, "the order does not depend on when one looks"


async def test_a_page_is_read_in_the_order_of_an_index_however_much_lies_behind_it(
    stores: Stores, database_url: str
) -> None:
    await stores.new_session("s1")
    connection = await asyncpg.connect(database_url)
    try:
        # Else a table as small as a test's is read whole.
        await connection.execute("SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_hashjoin = off")
        arguments = f"'{TENANT}', 1::bigint, ''::text, 0::bigint, 9::bigint, 100"
        await connection.execute(f"PREPARE feed (text, bigint, text, bigint, bigint, bigint) AS {_FEED}")
        plan = await connection.fetch(f"EXPLAIN EXECUTE feed ({arguments})")
    finally:
        await connection.close()
    assert any("Index Scan using session_events_commits" in line["QUERY PLAN"] for line in plan), plan
