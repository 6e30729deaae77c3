"""The event log's promises, on a real Postgres."""

import asyncio
from datetime import UTC, datetime

import pytest

from agent_runtime import v1
from agent_runtime_server.stores.base import Frame, GoneError, LeaseAction, Outcome, SessionQuery, StoredEvent
from enginekit.stores import OWNER, TENANT, Stores, appending, approval_row, beginning, event, opened

FRAME = Frame("s1", "f-1", b"digest")


@pytest.fixture(autouse=True)
async def _s1(stores: Stores) -> None:
    await stores.new_session("s1", title="One", labels={"team": "a"}, request_id="r-1")


class TestAppend:
    async def test_puts_events_behind_the_head(self, stores: Stores) -> None:
        appended = await stores.append("s1", 1, count=3)
        assert appended.outcome is Outcome.DONE
        assert [found.seq for found in await stores.log.events(TENANT, "s1", 0, 10)] == [1, 2, 3, 4]
        assert await stores.head("s1") == 4

    @pytest.mark.parametrize("head", [0, 2])
    async def test_with_another_head_is_a_conflict_and_writes_nothing(self, stores: Stores, head: int) -> None:
        events = [event("s1", 5)]
        assert (await stores.append("s1", head, events=events, frame=FRAME)).outcome is Outcome.CONFLICT
        assert await stores.head("s1") == 1
        assert await stores.log.frame("s1", "f-1") is None

    async def test_of_two_at_the_same_head_only_one_wins(self, stores: Stores, database_url: str) -> None:
        async with opened(database_url) as other:
            answers = await asyncio.gather(*(replica.append("s1", 1) for replica in (stores, other)))
        assert sorted(answer.outcome for answer in answers) == [Outcome.DONE, Outcome.CONFLICT]

    async def test_keeps_the_bytes_it_was_given(self, stores: Stores) -> None:
        payload = bytes(range(256))
        await stores.append("s1", 1, events=[event("s1", 2, payload)])
        assert await stores.log.events(TENANT, "s1", 1, 10) == [StoredEvent(2, 11, payload)]

    async def test_to_a_session_that_is_gone_says_so(self, stores: Stores) -> None:
        with pytest.raises(GoneError):
            await stores.append("s-gone", 1)

    async def test_keeps_the_fold_beside_what_lies_beside_the_log(self, stores: Stores) -> None:
        await stores.append("s1", 1, state=v1.SESSION_STATE_ACTIVE)
        row = await stores.log.row(TENANT, "s1")
        assert row is not None
        session = row.session
        assert (session.state, session.head_seq) == (v1.SESSION_STATE_ACTIVE, 2)
        assert (session.title, session.labels["team"], session.owner) == ("One", "a", OWNER)


class TestFencing:
    async def test_a_runner_appends_under_its_lease(self, stores: Stores) -> None:
        first = await stores.append("s1", 1, runnable=True, lease=LeaseAction.ACQUIRE)
        assert (first.lease_epoch, first.lease_mine) == (1, True)
        second = await stores.append("s1", 2, epoch=1, runnable=True, lease=LeaseAction.KEEP)
        assert (second.outcome, second.lease_epoch, second.lease_mine) == (Outcome.DONE, 1, True)
        third = await stores.append("s1", 3, epoch=1, lease=LeaseAction.RELEASE)
        assert (third.outcome, third.lease_mine) == (Outcome.DONE, False)

    async def test_a_runner_of_an_older_epoch_is_refused(self, stores: Stores) -> None:
        await stores.append("s1", 1, runnable=True, lease=LeaseAction.ACQUIRE)
        await stores.append("s1", 2, runnable=True, lease=LeaseAction.ACQUIRE)
        assert (await stores.append("s1", 3, epoch=1)).outcome is Outcome.CONFLICT
        assert await stores.head("s1") == 3

    async def test_a_runner_on_another_replica_is_refused(self, stores: Stores, database_url: str) -> None:
        await stores.append("s1", 1, runnable=True, lease=LeaseAction.ACQUIRE)
        async with opened(database_url) as other:
            assert (await other.append("s1", 2, epoch=1)).outcome is Outcome.CONFLICT

    async def test_whoever_brings_a_frame_leaves_a_running_lease_alone(self, stores: Stores, database_url: str) -> None:
        await stores.append("s1", 1, runnable=True, lease=LeaseAction.ACQUIRE)
        async with opened(database_url) as other:
            appended = await other.append("s1", 2, runnable=True, lease=LeaseAction.ACQUIRE)
        assert (appended.outcome, appended.lease_epoch, appended.lease_mine) == (Outcome.DONE, 1, False)
        row = await stores.log.row(TENANT, "s1")
        assert row is not None
        assert (row.lease_epoch, row.lease_mine) == (1, True)


class TestFrames:
    async def test_a_frame_is_kept_with_its_event(self, stores: Stores) -> None:
        await stores.append("s1", 1, frame=FRAME)
        assert await stores.log.frame("s1", "f-1") == (2, b"digest")
        assert await stores.log.frame("s2", "f-1") is None, "another session may use the id too"

    async def test_a_known_frame_is_a_duplicate_whatever_the_head(self, stores: Stores) -> None:
        await stores.append("s1", 1, frame=FRAME)
        for head in (1, 2):
            again = await stores.append("s1", head, frame=FRAME)
            assert (again.outcome, again.frame_seq, again.frame_digest) == (Outcome.DUPLICATE, 2, b"digest")
        assert await stores.head("s1") == 2

    async def test_a_frame_used_for_something_else_shows_the_digest_of_the_first(self, stores: Stores) -> None:
        await stores.append("s1", 1, frame=FRAME)
        other = await stores.append("s1", 2, frame=Frame("s1", "f-1", b"other"))
        assert (other.outcome, other.frame_digest) == (Outcome.DUPLICATE, b"digest")

    async def test_a_frame_may_make_no_event(self, stores: Stores) -> None:
        done = await stores.append("s1", 1, events=[], frame=FRAME)
        assert done.outcome is Outcome.DONE
        assert await stores.head("s1") == 1
        assert (await stores.append("s1", 1, frame=FRAME)).outcome is Outcome.DUPLICATE

    async def test_two_replicas_commit_a_frame_once(self, stores: Stores, database_url: str) -> None:
        async with opened(database_url) as other:
            answers = await asyncio.gather(*(replica.append("s1", 1, frame=FRAME) for replica in (stores, other)))
        assert sorted(answer.outcome for answer in answers) == [Outcome.DONE, Outcome.DUPLICATE]


class TestApprovalsOfAppends:
    async def test_are_stored_with_the_events(self, stores: Stores) -> None:
        await stores.append("s1", 1, approvals=(approval_row("ap-1", "s1"),))
        found = await stores.approvals.get(TENANT, "ap-1")
        assert found is not None
        assert (found.approval.revision, found.agent_id) == (1, "coder")

    async def test_must_follow_the_latest_revision(self, stores: Stores) -> None:
        await stores.append("s1", 1, approvals=(approval_row("ap-1", "s1"),))
        approved = approval_row("ap-1", "s1", 1, state=v1.APPROVAL_STATE_APPROVED)
        stale = approval_row("ap-1", "s1", 2, state=v1.APPROVAL_STATE_APPROVED)
        assert (await stores.append("s1", 2, approvals=(stale,))).outcome is Outcome.CONFLICT
        assert (await stores.append("s1", 2, approvals=(approved,))).outcome is Outcome.DONE
        found = await stores.approvals.get(TENANT, "ap-1")
        assert found is not None
        assert (found.approval.state, found.approval.revision) == (v1.APPROVAL_STATE_APPROVED, 2)


class TestCreate:
    async def test_a_session_is_there_with_its_first_event(self, stores: Stores) -> None:
        loaded = await stores.log.load(TENANT, "s1", 1)
        assert loaded is not None
        assert loaded.events == [b"s1 1"]
        assert loaded.row.tenant == TENANT
        assert not loaded.row.lease_mine
        assert loaded.row.session.HasField("create_time")

    async def test_an_id_or_a_request_makes_one_session(self, stores: Stores) -> None:
        for again in (beginning("s1", request_id="r-2"), beginning("s2", request_id="r-1")):
            existing, made = await stores.log.create(again)
            assert not made
            assert existing.session.session_id == "s1"
        assert await stores.log.row(TENANT, "s2") is None

    async def test_what_is_made_is_returned_as_it_is_stored(self, stores: Stores) -> None:
        row, made = await stores.log.create(beginning("s2", title="T"))
        assert made
        assert row == await stores.log.row(TENANT, "s2")
        assert row.session.etag

    async def test_requests_of_other_tenants_are_their_own(self, stores: Stores) -> None:
        _, made = await stores.log.create(beginning("s2", tenant="tenant-2", request_id="r-1"))
        assert made

    async def test_sessions_without_a_request_do_not_collide(self, stores: Stores) -> None:
        await stores.new_session("s2")
        await stores.new_session("s3")

    async def test_two_at_once_make_one(self, stores: Stores, database_url: str) -> None:
        async with opened(database_url) as other:
            made = await asyncio.gather(
                *(replica.log.create(beginning("s2", request_id="r-9")) for replica in (stores, other))
            )
        assert [made_now for _, made_now in made].count(True) == 1

    async def test_what_is_not_there_is_none(self, stores: Stores) -> None:
        assert await stores.log.load(TENANT, "s-gone", 1) is None
        assert await stores.log.row(TENANT, "s-gone") is None


class TestReading:
    async def test_events_come_in_pages(self, stores: Stores) -> None:
        await stores.append("s1", 1, count=9)
        assert [found.seq for found in await stores.log.events(TENANT, "s1", 3, 4)] == [4, 5, 6, 7]
        assert await stores.log.events(TENANT, "s1", 10, 4) == []

    async def test_a_page_of_large_events_is_cut_but_never_empty(self, stores: Stores) -> None:
        large = [event("s1", seq, bytes(900_000)) for seq in range(2, 6)]
        await stores.append("s1", 1, events=[*large, event("s1", 6, bytes(3_000_000))])
        assert [found.seq for found in await stores.log.events(TENANT, "s1", 1, 10)] == [2, 3]
        assert [found.seq for found in await stores.log.events(TENANT, "s1", 5, 10)] == [6]

    async def test_sessions_are_listed_newest_first_page_by_page(self, stores: Stores) -> None:
        await stores.new_session("s2", tenant="tenant-2")
        for number in range(3, 8):
            await stores.new_session(f"s{number}")
        seen: list[str] = []
        before: tuple[datetime, str] | None = None
        while page := await stores.log.list_sessions(SessionQuery(TENANT, 2, before)):
            assert len(page) <= 2
            seen += [row.session.session_id for row in page]
            last = page[-1].session
            before = (last.create_time.ToDatetime(UTC), last.session_id)
        assert seen == ["s7", "s6", "s5", "s4", "s3", "s1"]

    async def test_sessions_are_selected_by_state_and_label(self, stores: Stores) -> None:
        await stores.new_session("s2", labels={"team": "b", "kind": "x"})
        await stores.append("s2", 1, state=v1.SESSION_STATE_CLOSED)

        async def found(**selection: object) -> list[str]:
            rows = await stores.log.list_sessions(SessionQuery(TENANT, 10, **selection))  # type: ignore[arg-type]
            return [row.session.session_id for row in rows]

        assert await found(states=[v1.SESSION_STATE_CLOSED]) == ["s2"]
        assert await found(states=[v1.SESSION_STATE_IDLE, v1.SESSION_STATE_CLOSED]) == ["s2", "s1"]
        assert await found(labels={"team": "b"}) == ["s2"]
        assert await found(labels={"team": "b", "kind": "y"}) == []


class TestUpdate:
    async def test_changes_what_it_names_and_makes_a_new_etag(self, stores: Stores) -> None:
        before = await stores.log.row(TENANT, "s1")
        assert before is not None
        after = await stores.log.update(TENANT, "s1", before.session.etag, "Two", None, None, set_expire=False)
        assert after is not None
        assert (after.session.title, dict(after.session.labels)) == ("Two", {"team": "a"})
        assert after.session.etag != before.session.etag
        assert await stores.log.update(TENANT, "s1", before.session.etag, "Three", None, None, set_expire=False) is None

    async def test_without_an_etag_the_last_one_wins(self, stores: Stores) -> None:
        moment = datetime(2040, 1, 1, tzinfo=UTC)
        after = await stores.log.update(TENANT, "s1", "", None, {"x": "y"}, moment, set_expire=True)
        assert after is not None
        assert (after.session.title, dict(after.session.labels)) == ("One", {"x": "y"})
        assert after.session.expire_time.ToDatetime(UTC) == moment
        cleared = await stores.log.update(TENANT, "s1", "", None, None, None, set_expire=True)
        assert cleared is not None
        assert not cleared.session.HasField("expire_time")

    async def test_a_commit_makes_a_new_etag(self, stores: Stores) -> None:
        before = await stores.log.row(TENANT, "s1")
        assert before is not None
        await stores.log.append(appending("s1", 1))
        assert await stores.log.update(TENANT, "s1", before.session.etag, "Two", None, None, set_expire=False) is None
