"""What reviewers are shown, and what they may do, from any replica."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from agent_runtime import v1
from agent_runtime_server.core.errors import CallerError, StoreUnavailable
from agent_runtime_server.engine.reviews import Position, Reviewer, Reviews, claim
from agent_runtime_server.engine.session import Committed
from agent_runtime_server.stores.base import ApprovalQuery, Frame, StoredEvent
from enginekit.refusals import refused
from enginekit.replica import Replica, replica
from enginekit.stores import TENANT, approval_row

QUERY = ApprovalQuery(TENANT, 10, states=[v1.APPROVAL_STATE_PENDING])
ANN = Reviewer(TENANT, v1.Actor(kind=v1.ACTOR_KIND_USER, subject="ann"))
BOB = Reviewer(TENANT, v1.Actor(kind=v1.ACTOR_KIND_USER, subject="bob"))


@pytest.fixture
async def here(database_url: str) -> AsyncIterator[Replica]:
    """A replica with two open approvals."""
    async with replica(database_url, runs=False) as made:
        await made.stores.new_session("s1")
        await ask(made, "a1", 1)
        await ask(made, "a2", 2)
        yield made


async def ask(here: Replica, approval_id: str, head: int) -> None:
    await here.stores.append("s1", head, approvals=(approval_row(approval_id, "s1"),))


async def resolve(here: Replica, approval_id: str, head: int, before: int = 1) -> None:
    row = approval_row(approval_id, "s1", before, state=v1.APPROVAL_STATE_APPROVED)
    await here.stores.append("s1", head, approvals=(row,))


async def act(here: Replica, who: Reviewer, approval_id: str, frame_id: str, *, keep: bool = True) -> Committed:
    digest = f"{approval_id} {keep}".encode()
    return await claim(here.services, who, approval_id, Frame(who.scope, frame_id, digest), keep=keep)


async def approval(here: Replica, approval_id: str) -> v1.Approval:
    listed = await here.stores.approvals.get(TENANT, approval_id)
    assert listed is not None
    return listed.approval


async def pending(reviews: Reviews, position: Position) -> list[str]:
    return [one.approval_id async for one in reviews.pending(QUERY, position)]


async def changes(reviews: Reviews, position: Position) -> list[tuple[str, int]]:
    return [(one.approval_id, one.revision) for one in await reviews.changes(QUERY, position)]


class TestFeed:
    async def test_begins_with_all_that_is_pending_then_tells_of_changes_once(self, here: Replica) -> None:
        reviews = Reviews(here.stores.approvals)
        position = await reviews.start(None)
        assert await pending(reviews, position) == ["a2", "a1"]
        assert await changes(reviews, position) == []
        await act(here, ANN, "a1", "f-1")
        await ask(here, "a3", 3)
        await resolve(here, "a2", 4)
        assert sorted(await changes(reviews, position)) == [("a1", 2), ("a2", 2), ("a3", 1)]
        assert await changes(reviews, position) == []

    async def test_goes_on_from_a_token(self, here: Replica) -> None:
        reviews = Reviews(here.stores.approvals)
        token = (await reviews.start(None)).xid
        await ask(here, "a3", 3)
        assert await changes(reviews, await reviews.start(token)) == [("a3", 1)]

    async def test_reads_as_many_pages_as_there_are(self, here: Replica) -> None:
        rows = tuple(approval_row(f"b{number:03}", "s1") for number in range(450))
        await here.stores.append("s1", 3, approvals=rows)
        reviews = Reviews(here.stores.approvals)
        found = await pending(reviews, await reviews.start(None))
        assert len(found) == len(set(found)) == 452


class TestWaking:
    async def test_commits_of_this_replica_wake_reviewers_when_they_are_about_approvals(self, here: Replica) -> None:
        reviews = Reviews(here.stores.approvals)
        woken: list[int] = []
        with reviews.watching(lambda: woken.append(1)):
            reviews.committed([StoredEvent(1, v1.SessionEvent.USER_MESSAGE_FIELD_NUMBER, b"")])
            assert not woken
            reviews.committed([StoredEvent(2, v1.SessionEvent.APPROVAL_REQUESTED_FIELD_NUMBER, b"")])
            assert woken
        reviews.changed()
        assert len(woken) == 1, "who left is not woken"

    async def test_commits_of_other_replicas_are_looked_for(self, here: Replica) -> None:
        reviews = Reviews(here.stores.approvals, poll_seconds=0)
        woken = asyncio.Event()
        async with asyncio.TaskGroup() as group, asyncio.timeout(10):
            looking = group.create_task(reviews.run())
            await asyncio.sleep(0)
            with reviews.watching(woken.set):
                await woken.wait()  # the first look cannot know what was missed
                for head in (3, 4):
                    woken.clear()
                    await ask(here, f"a{head}", head)
                    await woken.wait()
            looking.cancel()

    async def test_looking_goes_on_when_the_database_was_away(self, here: Replica) -> None:
        store, failures = here.stores.approvals, [StoreUnavailable("away")]
        horizon = store.horizon

        async def failing() -> int:
            if failures:
                raise failures.pop()
            return await horizon()

        store.horizon = failing  # type: ignore[method-assign]
        reviews = Reviews(store, poll_seconds=0)
        woken = asyncio.Event()
        async with asyncio.TaskGroup() as group, asyncio.timeout(10):
            looking = group.create_task(reviews.run())
            with reviews.watching(woken.set):
                await woken.wait()
            looking.cancel()
        assert not failures


class TestClaims:
    async def test_a_claim_says_who_looks_and_until_when(self, here: Replica) -> None:
        await act(here, ANN, "a1", "f-1")
        claimed = await approval(here, "a1")
        assert (claimed.claimant.subject, claimed.revision) == ("ann", 2)
        assert claimed.claim_expire_time.seconds > here.clock().seconds + 100

    async def test_it_can_be_given_back(self, here: Replica) -> None:
        await act(here, ANN, "a1", "f-1")
        await act(here, ANN, "a1", "f-2", keep=False)
        released = await approval(here, "a1")
        assert (released.HasField("claimant"), released.HasField("claim_expire_time")) == (False, False)
        assert released.revision == 3

    async def test_it_keeps_others_from_claiming_until_it_runs_out(self, here: Replica) -> None:
        await act(here, ANN, "a1", "f-1")
        with refused("APPROVAL_CLAIMED", "ann looks at it", claimant="ann"):
            await act(here, BOB, "a1", "f-1")
        here.clock.ahead = 121
        await act(here, BOB, "a1", "f-1")
        assert (await approval(here, "a1")).claimant.subject == "bob"

    async def test_the_same_frame_claims_once(self, here: Replica) -> None:
        first = await act(here, ANN, "a1", "f-1")
        again = await act(here, ANN, "a1", "f-1")
        assert (first.duplicate, again.duplicate) == (False, True)
        with refused("IDEMPOTENCY_KEY_REUSED"):
            await act(here, ANN, "a2", "f-1")

    async def test_of_many_at_once_one_wins(self, here: Replica) -> None:
        answers = await asyncio.gather(*(act(here, who, "a1", "f-1") for who in (ANN, BOB)), return_exceptions=True)
        assert sum(isinstance(answer, Committed) for answer in answers) == 1

    async def test_a_frame_used_twice_at_the_same_moment_claims_one(self, here: Replica) -> None:
        claims = (act(here, ANN, approval_id, "f-1") for approval_id in ("a1", "a2"))
        answers = await asyncio.gather(*claims, return_exceptions=True)
        (error,) = [answer for answer in answers if isinstance(answer, CallerError)]
        assert error.wire_reason == "IDEMPOTENCY_KEY_REUSED"
        assert sorted([(await approval(here, one)).revision for one in ("a1", "a2")]) == [1, 2]

    async def test_what_is_decided_is_not_claimed(self, here: Replica) -> None:
        await resolve(here, "a1", 3)
        with refused("APPROVAL_ALREADY_RESOLVED", state="APPROVED", revision="2"):
            await act(here, ANN, "a1", "f-1")

    async def test_what_is_not_there_or_another_tenants_is_not_found(self, here: Replica) -> None:
        with refused("APPROVAL_NOT_FOUND"):
            await act(here, ANN, "a-gone", "f-1")
        with refused("APPROVAL_NOT_FOUND"):
            await act(here, Reviewer("tenant-2", ANN.actor), "a1", "f-1")

    async def test_frames_of_reviewers_are_their_own(self, here: Replica) -> None:
        assert ANN.scope != BOB.scope
