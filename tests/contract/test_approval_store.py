"""Approvals across sessions, and the claims on them."""

import asyncio
from datetime import datetime

import asyncpg
import pytest

from agent_runtime import v1
from agent_runtime_server.stores.base import ApprovalQuery, Frame, Outcome
from enginekit.stores import TENANT, Stores, approval_row, until_one_waits

PENDING, APPROVED = v1.APPROVAL_STATE_PENDING, v1.APPROVAL_STATE_APPROVED
CLAIM = Frame("reviewer:r1", "f-1", b"digest")


@pytest.fixture(autouse=True)
async def _approvals(stores: Stores) -> None:
    """Three open approvals in two sessions, and one of another tenant."""
    await stores.new_session("s1")
    await stores.new_session("s2")
    await stores.new_session("s3", tenant="tenant-2")
    await stores.append("s1", 1, approvals=(approval_row("a1", "s1", risk=v1.RISK_LEVEL_LOW),))
    await stores.append("s1", 2, approvals=(approval_row("a2", "s1", risk=v1.RISK_LEVEL_HIGH),))
    await stores.append("s2", 1, approvals=(approval_row("a3", "s2", agent_id="debug"),))
    await stores.append("s3", 1, approvals=(approval_row("a4", "s3"),))


async def found(stores: Stores, **selection: object) -> list[str]:
    query = ApprovalQuery(TENANT, 10, **selection)  # type: ignore[arg-type]
    return [listed.approval.approval_id for listed in await stores.approvals.list_approvals(query)]


async def claimed(stores: Stores, approval_id: str, before: int, frame: Frame = CLAIM) -> bool:
    listed = await stores.approvals.get(TENANT, approval_id)
    assert listed is not None
    listed.approval.revision = before + 1
    listed.approval.claimant.subject = "r1"
    return await stores.approvals.replace_claim(TENANT, before, listed.approval, frame)


async def test_one_is_for_its_own_tenant_only(stores: Stores) -> None:
    assert (await stores.approvals.get(TENANT, "a1")) is not None
    assert (await stores.approvals.get(TENANT, "a4")) is None
    assert (await stores.approvals.get(TENANT, "a-gone")) is None


async def test_they_are_listed_newest_first(stores: Stores) -> None:
    assert await found(stores) == ["a3", "a2", "a1"]


async def test_they_come_in_pages(stores: Stores) -> None:
    seen: list[str] = []
    before: tuple[datetime, str] | None = None
    while page := await stores.approvals.list_approvals(ApprovalQuery(TENANT, 2, before)):
        seen += [listed.approval.approval_id for listed in page]
        before = (page[-1].create_time, page[-1].approval.approval_id)
    assert seen == ["a3", "a2", "a1"]


async def test_they_are_selected(stores: Stores) -> None:
    await stores.append("s1", 3, approvals=(approval_row("a1", "s1", 1, state=APPROVED),))
    assert await found(stores, states=[PENDING]) == ["a3", "a2"]
    assert await found(stores, session_ids=["s1"], states=[PENDING, APPROVED]) == ["a2", "a1"]
    assert await found(stores, agent_ids=["debug"]) == ["a3"]
    assert await found(stores, min_risk=v1.RISK_LEVEL_HIGH) == ["a2"]


async def test_the_latest_rows_are_told_by_id(stores: Stores) -> None:
    assert await claimed(stores, "a1", 1)
    rows = await stores.approvals.revisions(TENANT, ["a1", "a2", "a-gone"])
    assert {approval_id: row.revision for approval_id, row in rows.items()} == {"a1": 2, "a2": 1}


async def test_a_claim_makes_the_next_revision(stores: Stores) -> None:
    assert await claimed(stores, "a1", 1)
    listed = await stores.approvals.get(TENANT, "a1")
    assert listed is not None
    assert (listed.approval.revision, listed.approval.claimant.subject) == (2, "r1")
    assert await stores.log.frame(CLAIM.scope, CLAIM.frame_id) == (0, b"digest")


async def test_a_claim_on_an_older_revision_changes_nothing(stores: Stores) -> None:
    await stores.append("s1", 3, approvals=(approval_row("a1", "s1", 1, state=APPROVED),))
    assert not await claimed(stores, "a1", 1)
    assert await stores.log.frame(CLAIM.scope, CLAIM.frame_id) is None


async def test_a_claim_under_a_known_frame_changes_nothing(stores: Stores) -> None:
    assert await claimed(stores, "a1", 1)
    assert not await claimed(stores, "a2", 1)
    rows = await stores.approvals.revisions(TENANT, ["a2"])
    assert rows["a2"].revision == 1


async def test_a_decision_must_know_the_revision_that_a_claim_made(stores: Stores) -> None:
    assert await claimed(stores, "a1", 1)
    unaware = approval_row("a1", "s1", 1, state=APPROVED)
    assert (await stores.append("s1", 3, approvals=(unaware,))).outcome is Outcome.CONFLICT
    aware = approval_row("a1", "s1", 2, state=APPROVED)
    assert (await stores.append("s1", 3, approvals=(aware,))).outcome is Outcome.DONE


async def test_what_changed_since_a_moment_is_told(stores: Stores) -> None:
    moment = await stores.approvals.horizon()
    assert not await stores.approvals.changed_since(moment)
    assert await found(stores, since_xid=moment) == []
    assert await claimed(stores, "a1", 1)
    await stores.append("s2", 2, approvals=(approval_row("a3", "s2", 1, state=APPROVED),))
    assert await stores.approvals.changed_since(moment)
    assert await found(stores, since_xid=moment) == ["a3", "a1"]
    assert not await stores.approvals.changed_since(await stores.approvals.horizon())


async def test_a_decision_waits_for_a_claim_that_is_being_made(stores: Stores, database_url: str) -> None:
    claiming = await asyncpg.connect(database_url)
    try:
        async with asyncio.TaskGroup() as group, claiming.transaction():
            await claiming.execute("UPDATE approvals SET revision = 2 WHERE approval_id = 'a1'")
            decided = (approval_row("a1", "s1", 1, state=APPROVED),)
            deciding = group.create_task(stores.append("s1", 3, approvals=decided))
            await until_one_waits(database_url)
        assert deciding.result().outcome is Outcome.CONFLICT, "two changes under one revision: a reviewer misses one"
    finally:
        await claiming.close()
