"""What the stores show a tenant of another's: nothing, and nothing of it can be changed."""

import pytest

from agent_runtime_server.stores.base import ApprovalQuery, FeedPlace, Frame, SessionQuery
from enginekit.stores import TENANT, Stores, approval_row

STRANGER = "tenant-2"


@pytest.fixture(autouse=True)
async def _owned(stores: Stores) -> None:
    """A session of the tenant, with an event and an open approval."""
    await stores.new_session("s1", title="theirs", request_id="r1")
    await stores.append("s1", 1, approvals=(approval_row("a1", "s1"),))


async def test_a_session_is_not_found(stores: Stores) -> None:
    assert await stores.log.row(STRANGER, "s1") is None
    assert await stores.log.load(STRANGER, "s1", 1) is None
    assert await stores.log.events(STRANGER, "s1", 0, 10) == []
    assert await stores.log.list_sessions(SessionQuery(STRANGER, 10)) == []


async def test_a_sweeper_finds_the_sessions_of_all(stores: Stores) -> None:
    row = await stores.log.row(None, "s1")
    assert row is not None
    assert row.tenant == TENANT


async def test_a_session_is_not_changed(stores: Stores) -> None:
    assert await stores.log.update(STRANGER, "s1", "", "mine", None, None, set_expire=False) is None
    row = await stores.log.row(TENANT, "s1")
    assert row is not None
    assert row.session.title == "theirs"


async def test_the_feed_over_all_sessions_leaves_it_out(stores: Stores) -> None:
    page, _ = await stores.log.feed(STRANGER, FeedPlace(0), 10)
    assert page == []
    page, _ = await stores.log.feed(TENANT, FeedPlace(0), 10)
    assert [event.seq for event, _ in page] == [1, 2]


async def test_an_approval_is_neither_seen_nor_claimed(stores: Stores) -> None:
    listed = await stores.approvals.get(TENANT, "a1")
    assert listed is not None
    assert await stores.approvals.get(STRANGER, "a1") is None
    assert await stores.approvals.list_approvals(ApprovalQuery(STRANGER, 10)) == []
    assert await stores.approvals.revisions(STRANGER, ["a1"]) == {}
    listed.approval.revision += 1
    assert not await stores.approvals.replace_claim(STRANGER, 1, listed.approval, Frame("scope", "f", b"digest"))
