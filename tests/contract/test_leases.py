"""Who may take a session on: nobody while its owner lives and renews, anybody otherwise."""

from datetime import UTC, datetime, timedelta

import pytest

from agent_runtime_server.stores.base import LeaseAction, Outcome
from agent_runtime_server.stores.postgres.leases import PostgresLeases
from agent_runtime_server.stores.upkeep import Taken
from enginekit.stores import TENANT, Stores, opened, taken

AT_ONCE = timedelta(0)  # a lease that has run out as soon as its transaction is over


async def runnable(stores: Stores, session_id: str, lease: LeaseAction = LeaseAction.RELEASE) -> None:
    """Make a session in which a step can be taken."""
    await stores.new_session(session_id)
    await stores.append(session_id, 1, runnable=True, lease=lease)


async def test_a_free_session_is_taken_once(stores: Stores, database_url: str) -> None:
    await runnable(stores, "s1")
    async with opened(database_url) as other:
        assert await other.leases.take_runnable(10) == [Taken("s1", 1, drained=True, unfinished=False)]
        assert await stores.leases.take_runnable(10) == []
        row = await other.log.row(TENANT, "s1")
    assert row is not None
    assert row.lease_mine


async def test_a_session_with_nothing_to_do_is_left_alone(stores: Stores) -> None:
    await stores.new_session("s1")
    assert await stores.leases.take_runnable(10) == []


async def test_sessions_are_taken_a_batch_at_a_time(stores: Stores) -> None:
    for number in range(5):
        await runnable(stores, f"s{number}")
    taken = [len(await stores.leases.take_runnable(2)) for _ in range(4)]
    assert taken == [2, 2, 1, 0]


async def test_a_session_of_a_live_owner_is_not_taken(stores: Stores, database_url: str) -> None:
    await runnable(stores, "s1", LeaseAction.ACQUIRE)
    async with opened(database_url) as other:
        assert await other.leases.take_runnable(10) == []


async def test_a_session_of_a_dead_replica_is_taken_at_once(stores: Stores, database_url: str) -> None:
    async with opened(database_url) as dying:
        await runnable(dying, "s1", LeaseAction.ACQUIRE)
        await dying.presence.close()
        assert await taken(stores) == [Taken("s1", 2, drained=False)]
        assert (await dying.append("s1", 2, epoch=1)).outcome is Outcome.CONFLICT, "what still comes of it is fenced"


async def test_a_session_of_a_stalled_owner_is_taken_when_its_lease_has_run_out(
    stores: Stores, database_url: str
) -> None:
    async with opened(database_url, lease=AT_ONCE) as stalled:
        await runnable(stalled, "s1", LeaseAction.ACQUIRE)
        assert await stores.leases.take_runnable(10) == [Taken("s1", 2, drained=False)]


async def test_a_renewed_lease_does_not_run_out(stores: Stores, database_url: str) -> None:
    async with opened(database_url, lease=AT_ONCE) as hasty:
        await runnable(hasty, "s1", LeaseAction.ACQUIRE)
        patient = PostgresLeases(hasty.database, hasty.presence, timedelta(seconds=10))
        assert await patient.renew({"s1": 1}) == []
        assert await stores.leases.take_runnable(10) == []


async def test_renewing_tells_of_leases_that_are_not_ours_any_more(stores: Stores, database_url: str) -> None:
    for session_id in ("s1", "s2", "s3"):
        await runnable(stores, session_id, LeaseAction.ACQUIRE)
    await stores.append("s2", 2, runnable=True, lease=LeaseAction.ACQUIRE)  # its epoch is 2 by now
    await stores.leases.release({"s3": 1}, unfinished=True)
    assert await stores.leases.renew({"s1": 1, "s2": 1, "s3": 1, "s-gone": 1}) == ["s-gone", "s2", "s3"]


@pytest.mark.parametrize("unfinished", [True, False])
async def test_who_takes_a_session_that_was_let_go_of_learns_whether_that_was_in_the_middle_of_a_step(
    stores: Stores, database_url: str, *, unfinished: bool
) -> None:
    await runnable(stores, "s1", LeaseAction.ACQUIRE)
    await stores.leases.release({"s1": 1}, unfinished=unfinished)
    async with opened(database_url) as other:
        assert await other.leases.take_runnable(10) == [Taken("s1", 2, drained=True, unfinished=unfinished)]


async def test_a_lease_of_another_epoch_is_not_released(stores: Stores, database_url: str) -> None:
    await runnable(stores, "s1", LeaseAction.ACQUIRE)
    await stores.leases.release({"s1": 7}, unfinished=True)
    async with opened(database_url) as other:
        assert await other.leases.take_runnable(10) == []


async def test_replicas_have_numbers_of_their_own(stores: Stores, database_url: str) -> None:
    async with opened(database_url) as one, opened(database_url) as two:
        assert len({stores.presence.replica, one.presence.replica, two.presence.replica}) == 3


@pytest.mark.parametrize("limit", [1, 10])
async def test_deadlines_that_have_passed_are_due_the_oldest_first(stores: Stores, limit: int) -> None:
    past = datetime(2020, 1, 1, tzinfo=UTC)
    moments = {
        "s1": past + timedelta(hours=1),
        "s2": past,
        "s3": datetime(2100, 1, 1, tzinfo=UTC),
        "s4": None,
    }
    for session_id, moment in moments.items():
        await stores.new_session(session_id)
        await stores.append(session_id, 1, deadline=moment)
    due = await stores.leases.due(limit)
    assert [one.session_id for one in due] == ["s2", "s1"][:limit]
    assert all(moments[one.session_id] < one.moment for one in due)  # type: ignore[operator]


async def test_who_was_cut_off_itself_gives_others_one_lease_period_to_come_back(
    stores: Stores, database_url: str
) -> None:
    async with opened(database_url, timedelta(seconds=2)) as owner:
        await owner.new_session("s1")
        await owner.append("s1", 1, runnable=True, lease=LeaseAction.ACQUIRE)
        async with opened(database_url, timedelta(seconds=2)) as other:
            other.presence._connection.terminate()  # as all are when Postgres restarts
            owner.presence._connection.terminate()
            assert not await other.leases.take_runnable(10), "it has not found Postgres again itself"
            await other.presence.keep()
            assert not await other.leases.take_runnable(10), "the owner, which seems dead, may be about to come back"
            assert not await owner.leases.renew({"s1": 1})
            await owner.presence.close()
            assert [one.session_id for one in await taken(other)] == ["s1"], "it did not"


async def test_who_was_cut_off_takes_what_is_free_at_once(stores: Stores) -> None:
    await stores.new_session("s1")
    await stores.append("s1", 1, runnable=True)
    stores.presence._connection.terminate()
    await stores.presence.keep()
    assert [one.session_id for one in await stores.leases.take_runnable(10)] == ["s1"]


async def test_a_commit_does_not_take_what_was_let_go_of_in_the_middle_of_a_step(
    stores: Stores, database_url: str
) -> None:
    await runnable(stores, "s1", LeaseAction.ACQUIRE)
    await stores.leases.release({"s1": 1}, unfinished=True)
    async with opened(database_url) as other:
        appended = await other.append("s1", 2, runnable=True, lease=LeaseAction.ACQUIRE)
        assert (appended.outcome, appended.lease_mine) == (Outcome.DONE, False)
        assert await other.leases.take_runnable(10) == [Taken("s1", 2, drained=True, unfinished=True)]
