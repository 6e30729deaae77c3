"""Deadlines are rows: whichever replica is there settles each of them once, by the database's clock."""

import asyncio
import time
from collections import Counter
from contextlib import AsyncExitStack

import pytest

from agent_runtime import v1
from agent_runtime_server.core.clock import to_nanos
from agent_runtime_server.engine.limits import Limits, TimeoutAction
from agent_runtime_server.engine.session import Session
from agent_runtime_server.stores.postgres.clock import DatabaseClock
from enginekit.model import Answer
from enginekit.replica import OFTEN, Replica, kinds, log, replica, until
from enginekit.stores import opened

HOUR = 3600 * 1_000_000_000
WRITE = ("write_file", {"path": "a.py", "content": "x"})
READ = ("read_file", {"path": "a.py"})


async def waiting(here: Replica, call: tuple[str, object], kind: str) -> Session:
    """Return a session whose turn waits on a deadline."""
    session = await here.new_session()
    here.model.then(Answer(calls=(call,)))
    await here.say(session)
    await until(session, kind)
    return session


@pytest.mark.parametrize(
    ("call", "waits", "ends"),
    [(WRITE, "approval_requested", "approval_resolved"), (READ, "tool_call_dispatched", "tool_call_completed")],
)
async def test_replicas_that_race_for_a_deadline_settle_it_once(
    database_url: str, call: tuple[str, object], waits: str, ends: str
) -> None:
    limits = Limits(approval_seconds=0.2, call_seconds=0.2)
    async with AsyncExitStack() as stack:
        async with replica(database_url, limits=limits) as gone:
            sessions = [await waiting(gone, call, waits) for _ in range(5)]
        racing = [await stack.enter_async_context(replica(database_url, timing=OFTEN)) for _ in range(3)]
        for left in sessions:
            session = await racing[0].session(left.session_id)
            await until(session, "turn_finished")
            counted = Counter(kinds(await log(session)))
            assert (counted[ends], counted["tool_call_completed"], counted["turn_finished"]) == (1, 1, 1)


async def test_a_turn_times_out_when_the_replica_that_began_it_is_gone(database_url: str) -> None:
    async with replica(database_url, limits=Limits(turn_seconds=0.2)) as gone:
        session = await waiting(gone, READ, "tool_call_dispatched")
    async with replica(database_url, timing=OFTEN) as here:  # whose own limit is half an hour
        finished = await until(await here.session(session.session_id), "turn_finished")
    assert finished.turn_finished.error.reason == "TURN_TIMEOUT"
    assert "0.2 s" in finished.turn_finished.error.message


@pytest.mark.parametrize("skew", [-HOUR, HOUR])
async def test_a_machine_whose_clock_is_wrong_sets_deadlines_by_the_databases(database_url: str, skew: int) -> None:
    async with replica(
        database_url, limits=Limits(approval_seconds=300), machine=lambda: time.time_ns() + skew
    ) as wrong:
        session = await waiting(wrong, WRITE, "approval_requested")
        asked = next(event for event in await log(session) if event.HasField("approval_requested"))
        row = await wrong.stores.database.fetchrow(
            "SELECT extract(epoch FROM next_deadline - now())::float8 AS left FROM sessions WHERE session_id = $1",
            session.session_id,
        )
        assert row is not None
        assert 240 < row["left"] <= 300
        approval = asked.approval_requested.approval
        assert to_nanos(approval.expire_time) - to_nanos(asked.create_time) == 300 * 1_000_000_000


@pytest.mark.parametrize("skew", [-HOUR, HOUR])
async def test_a_sweeper_whose_clock_is_wrong_settles_what_is_due_and_nothing_else(
    database_url: str, skew: int
) -> None:
    async with replica(database_url, limits=Limits(approval_seconds=0.2)) as here:
        early = await waiting(here, WRITE, "approval_requested")
    async with replica(database_url, limits=Limits(approval_seconds=300)) as here:
        late = await waiting(here, WRITE, "approval_requested")
    async with replica(database_url, timing=OFTEN, machine=lambda: time.time_ns() + skew) as sweeper:
        await until(await sweeper.session(early.session_id), "turn_finished")
        assert "approval_resolved" not in kinds(await log(await sweeper.session(late.session_id)))


async def test_a_clock_that_is_behind_does_not_hold_up_what_the_database_says_is_due(database_url: str) -> None:
    async with replica(database_url, limits=Limits(approval_seconds=0.2)) as here:
        session = await waiting(here, WRITE, "approval_requested")
    async with replica(database_url, timing=OFTEN) as behind:
        behind.clock.ahead = -3600
        resolved = await until(await behind.session(session.session_id), "approval_resolved")
        approval = resolved.approval_resolved.approval
        assert to_nanos(resolved.create_time) >= to_nanos(approval.expire_time)


@pytest.mark.parametrize(
    ("action", "state"),
    [("approve", v1.APPROVAL_STATE_APPROVED), ("reject", v1.APPROVAL_STATE_EXPIRED)],
)
async def test_what_happens_is_what_was_set_when_the_approval_was_asked_for(
    database_url: str, action: TimeoutAction, state: "v1.ApprovalState.ValueType"
) -> None:
    lookup = v1.ToolSpec(name="lookup", input_schema_json="{}", effect=v1.TOOL_EFFECT_READ, risk=v1.RISK_LEVEL_LOW)
    other: TimeoutAction = "reject" if action == "approve" else "approve"
    async with replica(database_url, limits=Limits(approval_seconds=0.2, approval_action=action)) as gone:
        session = await gone.new_session()
        await gone.submit(session, update_tools=v1.UpdateTools(tools=[lookup]))
        gone.model.then(Answer(calls=(("lookup", {}),)))
        await gone.say(session)
        await until(session, "approval_requested")
    async with replica(database_url, timing=OFTEN, limits=Limits(approval_action=other)) as here:
        resolved = await until(await here.session(session.session_id), "approval_resolved")
    assert resolved.approval_resolved.approval.state == state


async def test_the_clock_is_the_databases_however_wrong_the_machines_is(database_url: str) -> None:
    async with opened(database_url) as stores:
        clocks = [DatabaseClock(stores.database, lambda skew=skew: time.time_ns() + skew) for skew in (-HOUR, 0, HOUR)]  # type: ignore[misc]
        await asyncio.gather(*(clock.look() for clock in clocks))
        moments = [to_nanos(clock()) for clock in clocks]
        assert max(moments) - min(moments) < 60 * 1_000_000_000
