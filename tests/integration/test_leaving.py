"""A replica that leaves: its turns go on elsewhere, from the end of their step, and nothing is begun any more."""

from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from agent_runtime import v1
from agent_runtime_server.core.errors import StoreUnavailable
from agent_runtime_server.engine.hub import Timing, _alone
from enginekit.model import Answer
from enginekit.replica import OFTEN, Replica, kinds, log, replica, until
from enginekit.turns import until_true
from enginekit.wire import Wire

AGAIN: tuple[tuple[str, object], ...] = (
    ("fly", {}),
)  # a tool that nobody has: it fails at once, and the next step is due
NEVER = Timing(sweep_seconds=1000)
COMPLETED = v1.TURN_STATE_COMPLETED


def recoveries(events: list[v1.SessionEvent]) -> list[v1.TurnRecovered]:
    return [event.turn_recovered for event in events if event.HasField("turn_recovered")]


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
async def leaving(database_url: str, wire: Wire) -> AsyncIterator[Replica]:
    """The replica that leaves."""
    async with replica(database_url, bus=wire.line()) as one:
        yield one


@pytest.fixture
async def other(database_url: str, wire: Wire) -> AsyncIterator[Replica]:
    """One that stays, and takes over only what it is told of."""
    async with replica(database_url, timing=NEVER, bus=wire.line()) as one:
        yield one


async def test_a_step_is_finished_and_the_next_one_taken_elsewhere(leaving: Replica, other: Replica) -> None:
    session = await leaving.new_session(session_id="s1")
    leaving.model.then(Answer("Hel", calls=AGAIN, holds=True))
    await leaving.say(session)
    await leaving.model.held.wait()
    leaving.hub.leave()
    leaving.model.go.set()
    assert (await until(session, "turn_finished")).turn_finished.state == COMPLETED
    assert (len(leaving.model.requests), len(other.model.requests)) == (1, 1)
    assert not recoveries(await log(session)), "no step was left unfinished"
    await until_true(lambda: not leaving.hub.active_sessions)


async def test_a_step_that_takes_too_long_is_aborted_and_repeated_elsewhere(leaving: Replica, other: Replica) -> None:
    session = await leaving.new_session(session_id="s1")
    leaving.model.then(Answer("Hel", holds=True))
    await leaving.say(session)
    await leaving.model.held.wait()
    leaving.hub.leave()
    await leaving.hub.abandon(20)
    assert (leaving.hub.active_sessions, leaving.model.aborted) == (0, 1)
    assert (await until(session, "turn_finished")).turn_finished.state == COMPLETED
    [recovered] = recoveries(await log(session))
    assert recovered == v1.TurnRecovered(attempt=2, cause=v1.TurnRecovered.CAUSE_OWNER_DRAINED)
    assert len(other.model.requests) == 1


async def test_what_becomes_runnable_on_it_is_run_elsewhere_at_once(leaving: Replica, other: Replica) -> None:
    session = await leaving.new_session(session_id="s1")
    leaving.hub.leave()
    await leaving.say(session)
    assert (await until(session, "turn_finished")).turn_finished.state == COMPLETED
    assert (len(leaving.model.requests), len(other.model.requests)) == (0, 1)
    assert not recoveries(await log(session))


async def test_frames_that_it_still_takes_leave_a_step_to_its_owner(leaving: Replica, other: Replica) -> None:
    session = await other.new_session(session_id="s1")
    other.model.then(Answer("Hel", holds=True))
    await other.say(session)
    await other.model.held.wait()
    leaving.hub.leave()
    await leaving.say(await leaving.session("s1"), "one more")
    other.model.go.set()
    await until(session, "turn_finished", 2)
    events = await log(session)
    assert len(other.model.requests) == 2, "no step was taken twice"
    assert not recoveries(events)
    assert kinds(events).count("turn_started") == 2


async def test_a_lease_that_it_had_just_taken_is_given_back(database_url: str, leaving: Replica) -> None:
    async with replica(database_url, runs=False) as idle:
        session = await idle.new_session(session_id="s1")
        await idle.say(session)
        assert session.lease_epoch is not None
        idle.hub.leave()
        await idle.hub._hand_over(session, unfinished=False)
    [taken] = await leaving.stores.leases.take_runnable(10)
    assert (taken.drained, taken.unfinished) == (True, False)


async def test_it_takes_nothing_over(database_url: str, leaving: Replica) -> None:
    leaving.hub.leave()
    async with replica(database_url, runs=False) as idle:
        session = await idle.new_session(session_id="s1")
        await idle.say(session)
        await idle.stores.leases.release({"s1": 1}, unfinished=True)
        await leaving.hub._sweep()
        assert leaving.hub.active_sessions == 0
    async with replica(database_url, timing=OFTEN) as here:
        await until(await here.session("s1"), "turn_finished")


async def test_what_it_was_about_to_take_over_is_left_to_others(
    database_url: str, leaving: Replica, other: Replica
) -> None:
    async with replica(database_url, runs=False) as idle:
        session = await idle.new_session(session_id="s1")
        await idle.say(session)
        await idle.stores.leases.release({"s1": 1}, unfinished=False)
    [taken] = await leaving.stores.leases.take_runnable(10)
    leaving.hub.leave()
    await leaving.hub._take_over(taken)
    await until(await other.session("s1"), "turn_finished")
    assert not leaving.model.requests


async def test_with_nothing_in_hand_there_is_nothing_to_wait_for(leaving: Replica) -> None:
    leaving.hub.leave()
    await leaving.hub.abandon(1000)


async def test_a_lease_that_cannot_be_given_back_runs_out(leaving: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    for trouble in (StoreUnavailable("away"), LookupError("a bug")):

        async def failing(*_arguments: object, error: Exception = trouble, **_more: object) -> None:
            raise error

        monkeypatch.setattr(leaving.stores.leases, "release", failing)
        session = await leaving.new_session()
        session.lease_epoch = 1
        with capture_logs() as logs:
            await _alone(lambda session=session: leaving.hub._hand_over(session, unfinished=False))  # type: ignore[misc]
        assert len(logs) == 1
