"""Snapshots, compaction and removal keep their promises, on a real Postgres and with two replicas at it."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from agent_runtime import v1
from agent_runtime_server.stores.base import (
    CompactedError,
    FeedPlace,
    Frame,
    NewSession,
    Snapshot,
)
from agent_runtime_server.stores.upkeep import Compaction, SessionName
from enginekit.stores import TENANT, Stores, approval_row, beginning, event, opened

OURS, OTHERS = 7, 6
NOTHING = timedelta(0)


@pytest.fixture(autouse=True)
async def _s1(stores: Stores) -> None:
    await stores.new_session("s1", request_id="r-1")


def snapshot(seq: int, version: int = OURS) -> Snapshot:
    return Snapshot(seq, version, f"state at {seq}".encode())


async def loaded(stores: Stores, version: int = OURS) -> tuple[int, list[bytes]]:
    """Return the seq of the snapshot that is read, 0 for none, and the events behind it."""
    found = await stores.log.load(TENANT, "s1", version)
    assert found is not None
    return found.snapshot.seq if found.snapshot is not None else 0, list(found.events)


async def compact(stores: Stores, oldest: int, cut: int) -> bool:
    return await stores.retention.compact(Compaction("s1", oldest, snapshot(cut - 1)))


async def count(stores: Stores, table: str, of: str) -> int:
    row = await stores.database.fetchrow(f"SELECT count(*) AS n FROM {table} WHERE {of}")
    assert row is not None
    return int(row["n"])


class TestSnapshots:
    async def test_a_session_is_read_from_its_latest(self, stores: Stores) -> None:
        await stores.append("s1", 1, count=9)
        for seq in (4, 8):
            await stores.retention.save("s1", snapshot(seq))
        assert await loaded(stores) == (8, [b"s1 9", b"s1 10"])
        assert await count(stores, "session_snapshots", "true") == 1

    async def test_an_older_one_that_comes_late_changes_nothing(self, stores: Stores) -> None:
        await stores.append("s1", 1, count=9)
        for seq in (8, 4):
            await stores.retention.save("s1", snapshot(seq))
        assert (await loaded(stores))[0] == 8

    async def test_one_of_another_version_is_not_read_while_the_log_is_whole(self, stores: Stores) -> None:
        await stores.append("s1", 1, count=2)
        await stores.retention.save("s1", snapshot(2, OTHERS))
        assert await loaded(stores) == (0, [b"s1 1", b"s1 2", b"s1 3"])

    async def test_a_long_log_is_read_page_by_page(self, stores: Stores) -> None:
        await stores.append("s1", 1, count=700)
        _, events = await loaded(stores)
        assert len(events) == 500
        await stores.append("s1", 701, events=[event("s1", seq, bytes(900_000)) for seq in range(702, 706)])
        await stores.retention.save("s1", snapshot(701))
        assert [len(payload) for payload in (await loaded(stores))[1]] == [900_000] * 2


class TestCompaction:
    async def test_removes_what_the_new_base_stands_for(self, stores: Stores) -> None:
        await stores.append("s1", 1, count=9)
        assert await compact(stores, 1, 5)
        assert [found.seq for found in await stores.log.events(TENANT, "s1", 0, 100)] == [*range(5, 11)]
        row = await stores.log.row(TENANT, "s1")
        assert row is not None
        assert (row.session.oldest_seq, row.session.head_seq) == (5, 10)
        assert (await loaded(stores))[0] == 4
        assert await stores.log.base(TENANT, "s1", OURS) == snapshot(4)

    async def test_keeps_the_base_beside_later_snapshots(self, stores: Stores) -> None:
        await stores.append("s1", 1, count=9)
        await stores.retention.save("s1", snapshot(7))
        assert await compact(stores, 1, 5)
        for seq in (8, 9):
            await stores.retention.save("s1", snapshot(seq))
        assert (await loaded(stores))[0] == 9
        assert await stores.log.base(TENANT, "s1", OURS) == snapshot(4)
        assert await count(stores, "session_snapshots", "true") == 2

    async def test_leaves_frames_known(self, stores: Stores) -> None:
        await stores.append("s1", 1, count=5, frame=Frame("s1", "f-1", b"digest"))
        assert await compact(stores, 1, 5)
        assert await stores.log.frame("s1", "f-1") == (2, b"digest")

    async def test_of_two_replicas_only_one_does_it(self, stores: Stores, database_url: str) -> None:
        await stores.append("s1", 1, count=900)
        async with opened(database_url) as other:
            done = await asyncio.gather(*(compact(one, 1, 500) for one in (stores, other, stores, other)))
        assert done.count(True) == 1
        assert not await compact(stores, 1, 600), "it begins elsewhere by now"

    async def test_another_version_reads_the_snapshot_once_the_log_is_gone(self, stores: Stores) -> None:
        await stores.append("s1", 1, count=9)
        assert await compact(stores, 1, 5)
        assert (await loaded(stores, OTHERS))[0] == 4
        await stores.retention.save("s1", snapshot(6, OTHERS))
        assert (await loaded(stores, OTHERS))[0] == 6

    async def test_spares_what_a_feed_over_all_sessions_may_not_have_passed(
        self, stores: Stores, database_url: str
    ) -> None:
        async with opened(database_url) as other, other.database.connection() as connection, connection.transaction():
            await connection.execute("SELECT pg_current_xact_id()")
            await stores.append("s1", 1, count=9)
            assert not await compact(stores, 1, 5)
        assert await compact(stores, 1, 5)

    async def test_tells_a_feed_over_all_sessions_that_it_missed_something(self, stores: Stores) -> None:
        before = await stores.log.feed_end()
        await stores.append("s1", 1, count=9)
        assert await compact(stores, 1, 5)
        with pytest.raises(CompactedError) as told:
            await stores.log.feed(TENANT, before, 100)
        page, end = await stores.log.feed(TENANT, told.value.oldest, 100)
        assert page == []
        await stores.append("s1", 10)
        page, _ = await stores.log.feed(TENANT, end, 100)
        assert [found.payload for found, _ in page] == [b"s1 11"]

    async def test_is_none_of_another_tenants_feed(self, stores: Stores) -> None:
        await stores.append("s1", 1, count=9)
        assert await compact(stores, 1, 5)
        assert await stores.log.feed("tenant-2", FeedPlace(0), 100)

    async def test_long_sessions_are_found(self, stores: Stores) -> None:
        await stores.append("s1", 1, count=9)
        assert await stores.retention.long(5, 10) == [], "without a snapshot nobody looks at it"
        await stores.retention.save("s1", snapshot(9))
        assert await stores.retention.long(5, 10) == [SessionName(TENANT, "s1")]
        assert await stores.retention.long(10, 10) == []
        assert await compact(stores, 1, 6)
        assert await stores.retention.long(5, 10) == []

    async def test_a_session_may_begin_behind_a_base(self, stores: Stores) -> None:
        session = beginning("s2").session
        new = NewSession(session, TENANT, "", [event("s2", 6), event("s2", 7)], snapshot(5))
        _, made = await stores.log.create(new)
        assert made
        row = await stores.log.row(TENANT, "s2")
        assert row is not None
        assert (row.session.oldest_seq, row.session.head_seq) == (6, 7)
        assert await stores.log.base(TENANT, "s2", OURS) == snapshot(5)


class TestExpiry:
    async def close(self, stores: Stores, session_id: str = "s1") -> None:
        await stores.append(session_id, 1, state=v1.SESSION_STATE_CLOSED)

    async def expire(self, stores: Stores, session_id: str = "s1") -> None:
        past = datetime.now(UTC) - timedelta(seconds=1)
        await stores.log.update(TENANT, session_id, "", None, None, past, set_expire=True)

    async def test_open_sessions_whose_time_is_over_are_found(self, stores: Stores) -> None:
        await stores.new_session("s2")
        await self.expire(stores)
        assert await stores.retention.expired(10) == [SessionName(TENANT, "s1")]
        await self.close(stores)
        assert await stores.retention.expired(10) == []

    async def test_idle_sessions_expire(self, stores: Stores) -> None:
        await stores.new_session("s2")
        later = datetime(2100, 1, 1, tzinfo=UTC)
        await stores.log.update(TENANT, "s2", "", None, None, later, set_expire=True)
        await stores.retention.expire_idle(timedelta(hours=1), 10)
        assert await stores.retention.expired(10) == []
        await stores.retention.expire_idle(NOTHING, 10)
        assert await stores.retention.expired(10) == [SessionName(TENANT, "s1")], "s2 says itself when"

    async def test_only_closed_ones_are_buried_and_nobody_finds_them(self, stores: Stores) -> None:
        await self.expire(stores)
        await stores.retention.bury(NOTHING, 10)
        assert await stores.retention.buried(10) == []
        await self.close(stores)
        await stores.retention.bury(timedelta(hours=1), 10)
        assert await stores.retention.buried(10) == []
        await stores.retention.bury(NOTHING, 10)
        assert await stores.retention.buried(10) == ["s1"]
        assert await stores.log.load(TENANT, "s1", OURS) is None
        assert await stores.log.row(None, "s1") is None
        assert await stores.log.heads(["s1"]) == {}
        page, _ = await stores.log.feed(TENANT, FeedPlace(0), 100)
        assert page == []

    async def test_everything_of_it_goes_in_bounded_batches(self, stores: Stores) -> None:
        await stores.append("s1", 1, count=25, approvals=(approval_row("ap-1", "s1"),))
        for number in range(12):
            await stores.append("s1", 26 + number, frame=Frame("s1", f"f-{number}", b"digest"))
        await stores.retention.save("s1", snapshot(30))
        await stores.append("s1", 38, state=v1.SESSION_STATE_CLOSED)
        await self.expire(stores)
        await stores.retention.bury(NOTHING, 10)
        batches = 1
        while not await stores.retention.remove("s1", 10):
            batches += 1
        assert batches == 6
        for table, of in (
            ("sessions", "session_id = 's1'"),
            ("session_events", "session_id = 's1'"),
            ("session_snapshots", "session_id = 's1'"),
            ("approvals", "session_id = 's1'"),
            ("frames", "scope = 's1'"),
        ):
            assert await count(stores, table, of) == 0, table
        await stores.new_session("s1", request_id="r-1")

    async def test_two_replicas_remove_a_session_together(self, stores: Stores, database_url: str) -> None:
        await stores.append("s1", 1, count=200, state=v1.SESSION_STATE_CLOSED)
        await self.expire(stores)

        async def remove(one: Stores) -> None:
            await one.retention.bury(NOTHING, 10)
            while not await one.retention.remove("s1", 10):
                pass

        async with opened(database_url) as other:
            await asyncio.gather(remove(stores), remove(other))
            while await stores.retention.buried(10):
                await remove(stores)
        assert await count(stores, "session_events", "session_id = 's1'") == 0

    async def test_frames_of_reviewers_go_with_age_and_those_of_sessions_stay(self, stores: Stores) -> None:
        await stores.append("s1", 1, frame=Frame("s1", "f-1", b"digest"))
        await stores.append("s1", 2, frame=Frame("reviewer/t/a", "f-2", b"digest"))
        assert await stores.retention.forget_reviewers_frames(timedelta(days=7), 10) == 0
        assert await stores.retention.forget_reviewers_frames(NOTHING, 10) == 1
        assert await stores.log.frame("s1", "f-1") is not None
        assert await stores.log.frame("reviewer/t/a", "f-2") is None


async def test_a_round_is_taken_by_one_replica(stores: Stores, database_url: str) -> None:
    async with opened(database_url) as other:
        taken = await asyncio.gather(*(one.retention.claim("w", timedelta(hours=1)) for one in (stores, other, stores)))
        assert taken.count(True) == 1
        assert await other.retention.claim("another", timedelta(hours=1))
        assert await stores.retention.claim("soon", NOTHING)
        assert await other.retention.claim("soon", NOTHING)
