"""A turn that no model answers waits, owned by nobody, and goes on by itself."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from agent_runtime import v1
from agent_runtime_server.core.errors import ModelBrokeOff, ModelUnavailable
from agent_runtime_server.engine import settle
from agent_runtime_server.engine.feed import Item, Wanted
from agent_runtime_server.engine.limits import Limits
from agent_runtime_server.engine.session import Session
from agent_runtime_server.engine.state import State
from agent_runtime_server.stores.base import StoredEvent
from enginekit.model import Answer
from enginekit.replica import OFTEN, Replica, kinds, log, replica, until
from enginekit.stores import TENANT
from enginekit.turns import until_true

DOWN = ModelUnavailable("no answer")


@pytest.fixture
async def here(database_url: str) -> AsyncIterator[Replica]:
    async with replica(database_url) as made:
        yield made


@pytest.fixture
async def parked(here: Replica) -> Session:
    """A session whose turn is parked, while no call is let through."""
    session = await here.new_session()
    here.model.free = 0
    here.model.then(DOWN)
    await here.say(session)
    await until(session, "turn_parked")
    return session


async def seen_of_a_turn(here: Replica, session: Session) -> list[Item]:
    """Say something and return what a reader sees until the turn is over."""
    told: list[Item] = []
    async with asyncio.timeout(20):
        async for item in session.audience.follow(Wanted(session.head_seq)):
            told.append(item)
            if isinstance(item, v1.CaughtUp):
                await here.say(session)
            if isinstance(item, StoredEvent) and item.kind == v1.SessionEvent.TURN_FINISHED_FIELD_NUMBER:
                return told
    raise AssertionError("a feed that nobody ends does not end")


async def rows(here: Replica) -> int:
    return await here.stores.parked.count()


async def test_it_is_shown_kept_and_owned_by_nobody(here: Replica, parked: Session) -> None:
    row = await here.stores.log.row(TENANT, parked.session_id)
    assert row is not None
    assert row.session.current_turn.state == v1.TURN_STATE_PARKED
    assert not row.lease_mine
    assert await rows(here) == 1
    event = (await log(parked))[-1].turn_parked
    assert (event.error.reason, event.error.message) == ("MODEL_UNAVAILABLE", "no answer")
    assert event.deadline.seconds - event.retry_time.seconds == 1800


async def test_it_goes_on_when_a_model_is_back(here: Replica, parked: Session) -> None:
    here.model.come_back()
    finished = await until(parked, "turn_finished")
    assert finished.turn_finished.state == v1.TURN_STATE_COMPLETED
    assert kinds(await log(parked))[-4:] == ["turn_parked", "turn_resumed", "assistant_message", "turn_finished"]
    async with asyncio.timeout(20):
        while await rows(here):
            here.model.come_back()
            await asyncio.sleep(0.05)


async def test_one_that_cannot_be_resumed_keeps_no_other_waiting(
    here: Replica, parked: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = await here.new_session()
    here.model.then(DOWN)
    await here.say(broken)
    await until(broken, "turn_parked")
    load = Session.load

    async def failing(session: Session) -> State:
        if session is broken:
            raise ValueError("a bug")
        return await load(session)

    monkeypatch.setattr(Session, "load", failing)
    with capture_logs() as logs:
        here.model.come_back()
        assert (await until(parked, "turn_finished")).turn_finished.state == v1.TURN_STATE_COMPLETED
        await until_true(lambda: any(entry["event"] == "a parked turn cannot be resumed" for entry in logs))


async def test_another_replica_takes_it_up_after_a_crash(database_url: str) -> None:
    async with replica(database_url) as first:
        session = await first.new_session(session_id="s-crash")
        first.model.free = 0
        first.model.then(DOWN)
        await first.say(session)
        await until(session, "turn_parked")
    async with replica(database_url, timing=OFTEN) as second:
        finished = await until(await second.session("s-crash"), "turn_finished")
        assert finished.turn_finished.state == v1.TURN_STATE_COMPLETED
        assert len(second.model.requests) == 1


async def test_of_many_replicas_one_takes_it_up(database_url: str, parked: Session) -> None:
    async with replica(database_url, timing=OFTEN) as one, replica(database_url, timing=OFTEN) as other:
        await until(await one.session(parked.session_id), "turn_finished")
        assert len(one.model.requests) + len(other.model.requests) == 1
    assert kinds(await log(parked)).count("turn_resumed") == 1


async def test_it_can_be_cancelled(here: Replica, parked: Session) -> None:
    await here.submit(parked, cancel_turn=v1.CancelTurn())
    finished = await until(parked, "turn_finished")
    assert finished.turn_finished.state == v1.TURN_STATE_CANCELLED
    here.model.come_back()
    await here.say(parked, "something else")
    await until(parked, "turn_finished", 2)
    assert "turn_resumed" not in kinds(await log(parked))


async def test_it_can_be_interrupted_and_steered(here: Replica, parked: Session) -> None:
    steer = v1.UserMessage(parts=[v1.Part(text="and quickly")], delivery=v1.MESSAGE_DELIVERY_STEER)
    await here.submit(parked, user_message=steer)
    here.model.then(DOWN)
    interrupt = v1.UserMessage(parts=[v1.Part(text="no, this")], delivery=v1.MESSAGE_DELIVERY_INTERRUPT)
    await here.submit(parked, user_message=interrupt)
    finished = await until(parked, "turn_finished")
    assert finished.turn_finished.state == v1.TURN_STATE_CANCELLED
    await until(parked, "turn_parked", 2)
    here.model.come_back()
    await until(parked, "turn_finished", 2)
    said = [message["content"] for message in here.model.requests[-1].messages if message["role"] == "user"]
    assert said[-3:] == ["do it", "and quickly", "no, this"]


async def test_what_steers_it_is_heard_when_it_goes_on(here: Replica, parked: Session) -> None:
    steer = v1.UserMessage(parts=[v1.Part(text="and quickly")], delivery=v1.MESSAGE_DELIVERY_STEER)
    await here.submit(parked, user_message=steer)
    here.model.come_back()
    await until(parked, "turn_finished")
    assert kinds(await log(parked))[-5:] == [
        "user_message", "turn_resumed", "steering_seen", "assistant_message", "turn_finished",
    ]  # fmt: skip


async def test_it_fails_honestly_when_its_time_is_over(database_url: str) -> None:
    async with replica(database_url, timing=OFTEN, limits=Limits(park_seconds=60)) as here:
        session = await here.new_session()
        here.model.free = 0
        here.model.then(DOWN)
        await here.say(session)
        await until(session, "turn_parked")
        parked = (await log(session))[-1].turn_parked
        assert parked.deadline.seconds - parked.retry_time.seconds == 60
        here.clock.ahead = 61
        await session.commit(settle.due)
        finished = (await until(session, "turn_finished")).turn_finished
        assert (finished.state, finished.error.reason) == (v1.TURN_STATE_FAILED, "MODEL_UNAVAILABLE")
        assert "no answer" in finished.error.message


async def test_without_time_to_wait_the_turn_fails_at_once(database_url: str) -> None:
    async with replica(database_url, limits=Limits(park_seconds=0)) as here:
        session = await here.new_session()
        here.model.then(DOWN)
        await here.say(session)
        finished = (await until(session, "turn_finished")).turn_finished
        assert (finished.state, finished.error.reason) == (v1.TURN_STATE_FAILED, "MODEL_UNAVAILABLE")


async def test_an_answer_that_breaks_off_is_void_and_asked_for_again(here: Replica) -> None:
    session = await here.new_session()
    here.model.then(Answer("Half an ans", error=ModelBrokeOff("cut")), Answer("A whole one"))
    told = await seen_of_a_turn(here, session)
    recovered = next(event.turn_recovered for event in await log(session) if event.HasField("turn_recovered"))
    assert (recovered.cause, recovered.attempt) == (v1.TurnRecovered.CAUSE_MODEL_RETRY, 2)
    texts = [(one.attempt, one.text) for one in told if isinstance(one, v1.MessageDelta)]
    assert texts == [(1, "Half an ans"), (2, "A whole one")]
    notice = next(one for one in told if isinstance(one, v1.TurnNotice))
    assert (notice.kind, notice.call_number) == (v1.TurnNotice.KIND_RETRY, 2)


async def test_who_comes_during_a_wait_is_told_of_it(here: Replica) -> None:
    session = await here.new_session()
    notice = v1.TurnNotice(turn_id="t1", reason="HTTP 503")
    notice.wait.FromSeconds(600)
    session.audience.show(notice)
    async for item in session.audience.follow(Wanted(session.head_seq)):
        if isinstance(item, v1.TurnNotice):
            assert item.reason == "HTTP 503"
            assert 0 < item.wait.seconds < 600
            break


async def test_answers_that_keep_breaking_off_park_the_turn(here: Replica) -> None:
    session = await here.new_session()
    here.model.free = 0
    here.model.then(*[Answer("Half", error=ModelBrokeOff("cut"))] * 4)
    await here.say(session)
    await until(session, "turn_parked")
    assert kinds(await log(session))[-5:] == ["turn_recovered"] * 4 + ["turn_parked"]
    here.model.come_back()
    await until(session, "turn_finished")
