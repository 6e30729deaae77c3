"""A fork is a session of its own that remembers what the first one knew at a moment."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from agent_runtime import v1
from agent_runtime_server.engine import lifecycle
from agent_runtime_server.engine.session import Session
from enginekit.model import Answer
from enginekit.refusals import refused
from enginekit.replica import Replica, kinds, log, replica, until, wish
from enginekit.stores import OWNER, TENANT

READ = ("read_file", {"path": "a.py"})


@pytest.fixture
async def here(database_url: str) -> AsyncIterator[Replica]:
    async with replica(database_url) as made:
        yield made


@pytest.fixture
async def first(here: Replica) -> Session:
    """A session with one finished turn and a second one that waits for a call."""
    session = await here.new_session(session_id="s1")
    await here.say(session, "one")
    await until(session, "turn_finished")
    here.model.then(Answer(calls=(READ,)))
    await here.say(session, "two")
    await until(session, "tool_call_dispatched")
    return session


async def fork(here: Replica, at_seq: int, **fields: Any) -> tuple[v1.Session, bool]:
    row = await here.services.log.row(TENANT, "s1")
    assert row is not None
    return await lifecycle.fork(here.services, row.session, wish(session_id="s2", **fields), at_seq)


async def test_it_has_the_same_log_up_to_the_seq(here: Replica, first: Session) -> None:
    finished = await until(first, "turn_finished")
    made, created = await fork(here, finished.seq)
    assert (created, made.session_id, made.state) == (True, "s2", v1.SESSION_STATE_IDLE)
    before, after = (await log(first))[: finished.seq], await log(await here.session("s2"))
    assert kinds(after) == [*kinds(before), "session_forked"]
    assert {event.session_id for event in after} == {"s2"}
    assert after[-1].session_forked == v1.SessionForked(from_session_id="s1", from_seq=finished.seq)


async def test_what_ran_in_the_first_is_cancelled_in_the_fork_only(here: Replica, first: Session) -> None:
    made, _ = await fork(here, first.head_seq)
    forked = await here.session("s2")
    assert kinds(await log(forked))[-3:] == ["session_forked", "tool_call_completed", "turn_finished"]
    assert made.current_turn.state == v1.TURN_STATE_CANCELLED
    state = await first.load()
    assert state.turn is not None
    assert state.turn.state == v1.TURN_STATE_WAITING_FOR_TOOL


async def test_it_goes_on_by_itself(here: Replica, first: Session) -> None:
    await fork(here, first.head_seq)
    forked = await here.session("s2")
    await here.say(forked, "and now?")
    await until(forked, "turn_finished", 3)
    told = [message["content"] for message in here.model.requests[-1].messages if message["role"] == "user"]
    assert told == ["one", "two", "and now?"]


async def test_a_closed_session_is_forked_open(here: Replica, first: Session) -> None:
    await lifecycle.close(first, "enough", OWNER)
    made, _ = await fork(here, first.head_seq)
    assert made.state == v1.SESSION_STATE_IDLE
    assert "session_closed" not in kinds(await log(await here.session("s2")))


async def test_it_is_made_once(here: Replica, first: Session) -> None:
    _, created = await fork(here, 3, request_id="r")
    again, created_again = await fork(here, 3, request_id="r")
    assert (created, created_again, again.session_id) == (True, False, "s2")


@pytest.mark.parametrize("other", [{"tenant": "tenant-2"}, {"owner": v1.Actor(subject="stranger")}])
async def test_an_id_of_somebody_elses_session_is_refused(
    here: Replica, first: Session, other: dict[str, object]
) -> None:
    await fork(here, 3)
    with refused("IDEMPOTENCY_KEY_REUSED"):
        await fork(here, 3, **other)
