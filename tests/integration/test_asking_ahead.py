"""A model is asked while the commit that calls for it is on its way; of its answer nothing is told before."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from agent_runtime import v1
from agent_runtime_server.core.errors import CallerError
from agent_runtime_server.engine.feed import Item, Wanted
from agent_runtime_server.engine.session import Session
from agent_runtime_server.stores.postgres.database import Connection
from enginekit.model import Answer
from enginekit.replica import Replica, as_event, replica
from enginekit.turns import until_true


@asynccontextmanager
async def held_up(here: Replica, session: Session) -> AsyncIterator[Connection]:
    """Keep a session's commits from getting through while the block runs."""
    async with here.stores.database.connection() as connection, connection.transaction():
        await connection.execute("SELECT FROM sessions WHERE session_id = $1 FOR UPDATE", session.session_id)
        yield connection


async def until_text(feed: AsyncIterator[Item]) -> list[str]:
    """Read up to the first text, and return what came."""
    came = []
    async with asyncio.timeout(20):
        async for item in feed:
            event = as_event(item)
            came.append(type(item).__name__ if event is None else event.WhichOneof("payload") or "")
            if isinstance(item, v1.MessageDelta):
                break
    return came


async def test_text_that_comes_before_the_commit_is_shown_behind_it(database_url: str) -> None:
    async with replica(database_url) as here:
        session = await here.new_session()
        here.model.then(Answer("Hello", holds=True))
        feed = session.audience.follow(Wanted(session.head_seq))
        async with held_up(here, session):
            saying = session.spawn(here.say(session))
            await here.model.held.wait()
            assert [*session.audience.texts()] == []
            assert not saying.done()
        came = await until_text(aiter(feed))
        assert came.index("user_message") < came.index("MessageDelta")
        assert len(here.model.requests) == 1
        here.model.go.set()
        await saying
        session.audience.leave(feed)


async def test_a_request_is_ended_when_the_commit_fails(database_url: str) -> None:
    async with replica(database_url) as here:
        session = await here.new_session()
        here.model.then(Answer("Hello", holds=True))
        async with held_up(here, session) as connection:
            saying = session.spawn(here.say(session))
            await here.model.held.wait()
            await connection.execute("DELETE FROM session_events WHERE session_id = $1", session.session_id)
            await connection.execute("DELETE FROM sessions WHERE session_id = $1", session.session_id)
        (refusal,) = await asyncio.gather(saying, return_exceptions=True)
        assert isinstance(refusal, CallerError)
        await until_true(lambda: here.model.aborted == 1)
        assert [*session.audience.texts()] == []


async def test_a_step_that_is_no_longer_wanted_is_not_asked_twice(database_url: str) -> None:
    async with replica(database_url) as here:
        session = await here.new_session()
        here.model.then(Answer("Hello", holds=True))
        async with held_up(here, session):
            saying = session.spawn(here.say(session))
            await here.model.held.wait()
            cancelling = session.spawn(here.submit(session, cancel_turn=v1.CancelTurn()))
        await asyncio.gather(saying, cancelling)
        await until_true(lambda: here.model.aborted == 1 and not here.hub.active_sessions)
        assert len(here.model.requests) == 1
