"""When the answer to a commit is lost, the writer finds out what became of it before it tells anybody."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest

from agent_runtime_server.core.errors import StoreUnavailable
from agent_runtime_server.stores.base import Frame, GoneError, LeaseAction, Outcome
from agent_runtime_server.stores.postgres import database, writer
from enginekit.own_postgres import own_postgres
from enginekit.proxy import Proxy, proxied
from enginekit.stores import TENANT, Stores, event, opened, until_one_waits
from enginekit.turns import until_true

FRAME = Frame("s1", "f-1", b"digest")


@pytest.fixture
async def line(database_url: str) -> AsyncIterator[Proxy]:
    """The way that commits go by."""
    async with proxied(database_url) as proxy:
        yield proxy


@pytest.fixture
async def stores(database_url: str, line: Proxy) -> AsyncIterator[Stores]:
    async with opened(database_url, commits_url=line.url) as made:
        await made.new_session("s1")
        await made.new_session("s2")
        await made.append("s1", 1)  # the connection is open and the statement prepared
        yield made


async def seqs(stores: Stores, session_id: str = "s1") -> list[int]:
    return [found.seq for found in await stores.log.events(TENANT, session_id, 0, 100)]


async def test_one_that_was_done_counts_as_done_with_its_lease(stores: Stores, line: Proxy) -> None:
    line.lose_answer()
    appended = await stores.append("s1", 2, count=2, runnable=True, lease=LeaseAction.ACQUIRE)
    assert line.lost == ["answer"]
    assert (appended.outcome, appended.lease_epoch, appended.lease_mine) == (Outcome.DONE, 1, True)
    assert await seqs(stores) == [1, 2, 3, 4]
    assert (await stores.append("s1", 4, epoch=1)).outcome is Outcome.DONE, "the lease is good"


async def test_one_that_was_not_done_is_tried_again_unnoticed(stores: Stores, line: Proxy) -> None:
    line.lose_request()
    assert (await stores.append("s1", 2)).outcome is Outcome.DONE
    assert line.lost == ["request"]
    assert await seqs(stores) == [1, 2, 3]


async def test_one_that_another_was_faster_than_is_a_conflict(stores: Stores, line: Proxy, database_url: str) -> None:
    async with opened(database_url) as other, asyncio.TaskGroup() as group:
        line.lose_request()
        line.opens.clear()
        mine = group.create_task(stores.append("s1", 2, events=[event("s1", 3, b"mine")]))
        await until_true(lambda: line.lost)
        await other.append("s1", 2, events=[event("s1", 3, b"theirs")])
        line.opens.set()
        assert (await mine).outcome is Outcome.CONFLICT
    assert (await stores.log.events(TENANT, "s1", 2, 10))[0].payload == b"theirs"


async def test_one_whose_lease_another_has_taken_since_is_done_without_it(line: Proxy, database_url: str) -> None:
    async with (
        opened(database_url, timedelta(0), commits_url=line.url) as stores,
        opened(database_url) as other,
        asyncio.TaskGroup() as group,
    ):
        await stores.new_session("s1")
        await stores.append("s1", 1)
        line.lose_answer()
        line.opens.clear()
        mine = group.create_task(stores.append("s1", 2, runnable=True, lease=LeaseAction.ACQUIRE))
        await until_true(lambda: line.lost)
        assert [taken.lease_epoch for taken in await other.leases.take_runnable(10)] == [2]
        line.opens.set()
        appended = await mine
        assert (appended.outcome, appended.lease_mine) == (Outcome.DONE, False)


async def test_a_frame_that_made_no_event_is_known_by_itself(stores: Stores, line: Proxy) -> None:
    line.lose_answer()
    assert (await stores.append("s1", 2, events=[], frame=FRAME)).outcome is Outcome.DONE
    line.lose_request()
    again = await stores.append("s1", 2, events=[], frame=Frame("s1", "f-1", b"another"))
    assert (again.outcome, again.frame_digest) == (Outcome.DUPLICATE, b"digest")


async def test_each_append_of_a_lost_batch_has_its_own_outcome(stores: Stores, line: Proxy) -> None:
    line.lose_answer()
    answers = await asyncio.gather(
        stores.append("s1", 2, frame=FRAME), stores.append("s2", 7), stores.append("s-gone", 1), return_exceptions=True
    )
    assert [getattr(answer, "outcome", type(answer)) for answer in answers] == [
        Outcome.DONE,
        Outcome.CONFLICT,
        GoneError,
    ]


async def test_one_that_is_lost_twice_says_that_postgres_is_away(stores: Stores, line: Proxy) -> None:
    line.lose_request()
    line.lose_request(b"append_events")  # which a new connection says when it prepares the statement
    with pytest.raises(StoreUnavailable, match="database is unavailable"):
        await stores.append("s1", 2)
    assert line.lost == ["request", "request"]
    assert await seqs(stores) == [1, 2]
    assert (await stores.append("s1", 2)).outcome is Outcome.DONE


async def test_a_line_that_falls_silent_is_given_up(
    line: Proxy, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "_ANSWER_SECONDS", 0.5)
    async with opened(database_url, commits_url=line.url) as stores:
        await stores.new_session("s1")
        await stores.append("s1", 1)
        line.stall()
        assert (await stores.append("s1", 2)).outcome is Outcome.DONE


async def test_postgres_may_restart_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "_DOUBT_SECONDS", 60)  # the machine may be busy
    async with own_postgres() as postgres, opened(postgres.url) as stores:
        await stores.new_session("s1")
        lock = await asyncpg.connect(postgres.url)
        await lock.execute("BEGIN; SELECT 1 FROM sessions WHERE session_id = 's1' FOR UPDATE")
        async with asyncio.TaskGroup() as group:
            append = group.create_task(stores.append("s1", 1))
            await until_one_waits(postgres.url)
            await postgres.crash()
            await postgres.start()
        await lock.close()
        assert append.result().outcome is Outcome.DONE
        assert await seqs(stores) == [1, 2]


async def test_while_postgres_is_away_everybody_who_waits_is_told_at_once(
    stores: Stores, line: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "_DOUBT_SECONDS", 0)
    line.refuse()
    answers = await asyncio.gather(*(stores.append("s1", head) for head in (2, 3, 4)), return_exceptions=True)
    assert all(isinstance(answer, StoreUnavailable) for answer in answers)
    line.accept()
    assert (await stores.append("s1", 2)).outcome is Outcome.DONE


async def test_nobody_waits_for_ever_when_the_writer_stops_in_doubt(stores: Stores, line: Proxy) -> None:
    async def stop_in_doubt() -> None:
        await until_true(lambda: line.refused > 1)
        stores.writing.cancel()

    line.refuse()
    lost, _ = await asyncio.gather(stores.append("s1", 2), stop_in_doubt(), return_exceptions=True)
    assert isinstance(lost, StoreUnavailable)
