"""Appends of many sessions share a transaction, and none suffers from another."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import asyncpg
import pytest

from agent_runtime_server.core.errors import Bug, StoreUnavailable
from agent_runtime_server.stores.base import Appended, Frame, Outcome, StoredEvent
from agent_runtime_server.stores.postgres.queue import Bounds
from enginekit.stores import TENANT, Stores, appending, event, locked, opened, until_one_waits
from enginekit.turns import turns
from servicekit.waiting import until

SESSIONS = [f"s{number}" for number in range(1, 9)]


@pytest.fixture(autouse=True)
async def _sessions(stores: Stores) -> None:
    for session_id in SESSIONS:
        await stores.new_session(session_id)


@asynccontextmanager
async def gathering(
    stores: Stores, url: str
) -> AsyncIterator[Callable[[Awaitable[Appended]], "asyncio.Task[Appended | Exception]"]]:
    """Hold up a commit, so that what is appended meanwhile goes into the next batch."""

    async def outcome(append: Awaitable[Appended]) -> Appended | Exception:
        try:
            return await append
        except Exception as error:  # noqa: BLE001 - the test looks at it
            return error

    async with asyncio.TaskGroup() as group, locked(url, "s1"):
        group.create_task(outcome(stores.append("s1", 1)))
        await until_one_waits(url)
        yield lambda append: group.create_task(outcome(append))
        await turns()


async def test_a_lone_append_is_written_at_once(stores: Stores) -> None:
    await stores.append("s1", 1)
    assert stores.batches.sizes == [1]


async def test_what_comes_while_a_commit_is_in_flight_is_one_transaction(stores: Stores, database_url: str) -> None:
    async with gathering(stores, database_url) as begin:
        tasks = [begin(stores.append(session_id, 1)) for session_id in SESSIONS[1:]]
    assert stores.batches.sizes == [1, 7]
    assert all(isinstance(task.result(), Appended) for task in tasks)
    connection = await asyncpg.connect(database_url)
    transactions = await connection.fetchval(
        "SELECT count(DISTINCT commit_xid) FROM session_events WHERE seq = 2 AND session_id <> 's1'"
    )
    await connection.close()
    assert transactions == 1


async def test_behind_a_batch_of_many_the_next_one_gathers(stores: Stores, database_url: str) -> None:
    async with opened(database_url, bounds=Bounds(apart_seconds=1)) as here:
        async with gathering(here, database_url) as begin:
            many = [begin(here.append(session_id, 1)) for session_id in SESSIONS[1:]]
        await asyncio.wait(many)
        async with asyncio.TaskGroup() as group:
            group.create_task(here.append("s2", 2))
            await turns()
            group.create_task(here.append("s3", 2))
        assert here.batches.sizes == [1, 7, 2]


async def test_behind_a_batch_of_few_the_next_one_waits_for_nothing(stores: Stores, database_url: str) -> None:
    async with opened(database_url, bounds=Bounds(apart_seconds=3600)) as here:
        async with gathering(here, database_url) as begin:
            few = [begin(here.append(session_id, 1)) for session_id in SESSIONS[1:3]]
        await asyncio.wait(few)
        await here.append("s2", 2)
        assert here.batches.sizes == [1, 2, 1]


async def test_the_connection_is_kept_for_the_next_batch_a_little_and_then_given_back(stores: Stores) -> None:
    await stores.append("s1", 1)
    assert stores.commits.idle == 0
    await until(lambda: stores.commits.idle == 1, "the connection is given back")
    await stores.append("s1", 2)


async def test_each_append_of_a_batch_has_its_own_outcome(stores: Stores, database_url: str) -> None:
    frame = Frame("s4", "f-1", b"digest")
    await stores.append("s4", 1, frame=frame)
    async with gathering(stores, database_url) as begin:
        tasks = [
            begin(stores.append("s2", 1)),
            begin(stores.append("s3", 7)),
            begin(stores.append("s4", 2, frame=frame)),
        ]
    outcomes = [answer.outcome for task in tasks if isinstance(answer := task.result(), Appended)]
    assert outcomes == [Outcome.DONE, Outcome.CONFLICT, Outcome.DUPLICATE]


async def test_appends_of_one_session_keep_their_order(stores: Stores, database_url: str) -> None:
    async with gathering(stores, database_url) as begin:
        tasks = [begin(stores.append("s2", head)) for head in range(1, 6)]
    answers = [task.result() for task in tasks]
    assert [answer.outcome for answer in answers if isinstance(answer, Appended)] == [Outcome.DONE] * 5
    assert [found.seq for found in await stores.log.events(TENANT, "s2", 0, 10)] == [1, 2, 3, 4, 5, 6]


async def test_a_session_with_a_crowd_of_appends_holds_nobody_else_up(stores: Stores, database_url: str) -> None:
    seen_by_other: list[int] = []
    patient = Bounds(outside_seconds=60)  # else a slow machine refuses the end of the crowd
    async with opened(database_url, bounds=patient) as here:

        async def other() -> Appended:
            appended = await here.append("s3", 1)
            seen_by_other.extend(here.batches.sizes)
            return appended

        async with gathering(here, database_url) as begin:
            crowd = [begin(here.append("s2", head)) for head in range(1, 301)]
            await turns()
            begin(other())
    answers = [task.result() for task in crowd]
    assert [answer.outcome for answer in answers if isinstance(answer, Appended)] == [Outcome.DONE] * 300
    assert len(await stores.log.events(TENANT, "s2", 0, 2000)) == 301
    assert seen_by_other == [1, 2], "it is in the next batch"


async def test_what_finds_no_room_for_too_long_is_refused_and_the_rest_is_committed(
    stores: Stores, database_url: str
) -> None:
    bounds = Bounds(appends=2, outside_seconds=0.1)
    async with opened(database_url, bounds=bounds) as here, gathering(here, database_url) as begin:
        inside = [begin(here.append(session_id, 1)) for session_id in ("s2", "s3")]
        outside = [begin(here.append(session_id, 1)) for session_id in SESSIONS[3:]]
        await asyncio.wait(outside)
        errors = [task.result() for task in outside]
        assert all(isinstance(error, StoreUnavailable) for error in errors)
        assert here.writer._queue.appends == 2, "memory does not grow"
    assert all(isinstance(task.result(), Appended) for task in inside)


async def test_each_batch_tells_what_it_held_and_what_is_left(stores: Stores, database_url: str) -> None:
    async with gathering(stores, database_url) as begin:
        for head in (1, 2):
            begin(stores.append("s2", head, events=[event("s2", head + 1, bytes(100))]))
    _, first, second = stores.batches.seen
    assert (first.appends, first.size, first.left, first.left_size) == (1, 100, 1, 100)
    assert (second.appends, second.left, second.left_size) == (1, 0, 0)
    assert second.waited >= first.seconds >= 0


async def test_the_size_of_a_transaction_is_bounded(stores: Stores, database_url: str) -> None:
    async with gathering(stores, database_url) as begin:
        for session_id in SESSIONS[1:7]:
            begin(stores.append(session_id, 1, events=[event(session_id, 2, bytes(3 << 20))]))
    assert stores.batches.sizes == [1, 3, 3]


@pytest.mark.parametrize(
    "poison",
    [
        {"events": [StoredEvent(2, 1 << 20, b"the number of its kind is too large")]},
        {"frame": Frame("s5", "no\0text", b"")},
        {"frame": Frame("s5", "half a \ud800 character", b"")},
        {"events": [StoredEvent(1, 11, b"that seq is taken")]},
    ],
    ids=["number", "nul", "surrogate", "taken"],
)
async def test_an_append_that_cannot_be_stored_fails_alone(
    stores: Stores, database_url: str, poison: dict[str, object]
) -> None:
    others = [session_id for session_id in SESSIONS[1:] if session_id != "s5"]
    async with gathering(stores, database_url) as begin:
        tasks = [begin(stores.append(session_id, 1)) for session_id in others]
        poisoned = begin(stores.log.append(appending("s5", 1, **poison)))  # type: ignore[arg-type]
    assert all(isinstance(task.result(), Appended) for task in tasks)
    assert {await stores.head(session_id) for session_id in others} == {2}
    assert await stores.head("s5") == 1
    assert isinstance(poisoned.result(), Bug), "what it was does not leave the store"
    assert (await stores.append("s5", 1)).outcome is Outcome.DONE, "the writer goes on"


async def test_who_gives_up_waiting_harms_nobody(stores: Stores, database_url: str) -> None:
    async with gathering(stores, database_url) as begin:
        gone, stays = begin(stores.append("s2", 1)), begin(stores.append("s3", 1))
        await turns()
        gone.cancel()
    assert isinstance(stays.result(), Appended)
    assert await stores.head("s2") == 2, "it may have been committed all the same"


async def test_appends_that_wait_when_the_writer_stops_are_told(stores: Stores, database_url: str) -> None:
    async with gathering(stores, database_url) as begin:
        waiting = begin(stores.append("s2", 1))
        in_flight = begin(stores.append("s1", 2))
        await turns()
        stores.writing.cancel()
        await asyncio.wait({stores.writing})
        await turns()
        assert isinstance(waiting.result(), StoreUnavailable)
        assert isinstance(in_flight.result(), StoreUnavailable)


async def test_two_replicas_write_the_same_sessions_without_a_deadlock(stores: Stores, database_url: str) -> None:
    async with opened(database_url) as other:
        for head in range(1, 11):
            await asyncio.gather(
                *(stores.append(session_id, head) for session_id in SESSIONS),
                *(other.append(session_id, head) for session_id in reversed(SESSIONS)),
            )
    assert {await stores.head(session_id) for session_id in SESSIONS} == {11}
