"""What a runner does when its work cannot be kept."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from agent_runtime import v1
from agent_runtime_server.engine import steps
from enginekit.model import Answer
from enginekit.replica import kinds, log, replica, until
from enginekit.turns import turns


async def test_a_turn_begun_while_an_answer_waits_to_be_refused_is_run_at_once(database_url: str) -> None:
    """The lease is let go of by the cancel and taken anew by the message, before the answer's commit has its turn."""
    async with replica(database_url) as here:
        session = await here.new_session()
        here.model.then(Answer("late", holds=True), Answer("second"))
        await here.say(session)
        await here.model.held.wait()
        async with asyncio.TaskGroup() as group, session._lock:
            group.create_task(here.submit(session, cancel_turn=v1.CancelTurn()))
            group.create_task(here.say(session, "again"))
            await turns()
            here.model.go.set()
            await turns()
        await until(session, "turn_finished", 2)
        events = await log(session)
        assert "turn_recovered" not in kinds(events)
        states = [event.turn_finished.state for event in events if event.HasField("turn_finished")]
        assert states == [v1.TURN_STATE_CANCELLED, v1.TURN_STATE_COMPLETED]


async def test_an_answer_that_cannot_be_recorded_ends_its_turn(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_given: Any) -> None:
        raise ValueError("an answer nobody thought of")

    monkeypatch.setattr(steps, "answered", broken)
    async with replica(database_url) as here:
        session = await here.new_session()
        with capture_logs():
            await here.say(session)
            finished = (await until(session, "turn_finished")).turn_finished
        assert (finished.state, finished.error.reason) == (v1.TURN_STATE_FAILED, "INTERNAL")
        assert "nobody thought of" not in finished.error.message
        assert len(here.model.requests) == 1


async def test_an_answer_is_kept_when_its_lease_ran_out_and_this_replica_took_it_anew(database_url: str) -> None:
    async with replica(database_url, lease=timedelta(0)) as here:
        session = await here.new_session()
        here.model.then(Answer("kept", holds=True))
        await here.say(session)
        await here.model.held.wait()
        (taken,) = await here.stores.leases.take_runnable(10)
        here.model.go.set()
        finished = (await until(session, "turn_finished")).turn_finished
        assert (taken.lease_epoch, finished.state) == (2, v1.TURN_STATE_COMPLETED)
        assert len(here.model.requests) == 1
        assert "turn_recovered" not in kinds(await log(session))
