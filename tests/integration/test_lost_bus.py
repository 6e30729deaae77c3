"""Without the bus between replicas everything is found in the log within a sweep."""

from dataclasses import replace

import pytest

from agent_runtime import v1
from agent_runtime_server.engine.feed import Wanted
from enginekit.model import Answer
from enginekit.replica import OFTEN, as_event, replica, until
from enginekit.turns import until_true
from enginekit.wire import Wire

RARE_LOOKS = replace(OFTEN, heartbeat_seconds=1000, lease_seconds=1)


@pytest.mark.parametrize("back", [False, True])
async def test_who_follows_an_idle_session_sees_what_another_replica_commits(database_url: str, back: bool) -> None:
    line = Wire().line()
    async with replica(database_url, timing=RARE_LOOKS, bus=line) as here, replica(database_url) as there:
        session = await here.new_session()
        feed = session.audience.follow(Wanted(session.head_seq))
        line.connected = False
        await until_true(lambda: not here.hub._woken)
        theirs = await there.session(session.session_id)
        await there.submit(theirs, switch_agent=v1.SwitchAgent(agent_id="ask"))
        line.connected = back
        async for item in feed:
            event = as_event(item)
            if event is not None:
                assert event.HasField("agent_handoff")
                break
        session.audience.leave(feed)


async def test_the_owner_of_a_step_sees_a_cancel_that_another_replica_took(database_url: str) -> None:
    line = Wire().line()
    line.connected = False
    async with replica(database_url, timing=RARE_LOOKS, bus=line) as here, replica(database_url) as there:
        session = await here.new_session()
        here.model.then(Answer("Hel", holds=True))
        await here.say(session)
        await until_true(lambda: bool(here.model.requests))
        theirs = await there.session(session.session_id)
        await there.submit(theirs, cancel_turn=v1.CancelTurn())
        await until_true(lambda: here.model.aborted == 1)
        finished = await until(session, "turn_finished")
        assert finished.turn_finished.state == v1.TURN_STATE_CANCELLED


async def test_a_turn_after_one_that_another_replica_stopped_begins_without_a_sweep(database_url: str) -> None:
    wire = Wire()
    async with (
        replica(database_url, bus=wire.line()) as here,
        replica(database_url, bus=wire.line()) as there,
    ):
        session = await here.new_session()
        here.model.then(Answer("Hel", holds=True), Answer("done"))
        await here.say(session)
        await until_true(lambda: bool(here.model.requests))
        await there.submit(await there.session(session.session_id), cancel_turn=v1.CancelTurn())
        await until_true(lambda: not here.hub.active_sessions)
        await here.say(session, "again")
        await until(session, "turn_finished", 2)
