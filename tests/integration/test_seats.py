"""A newer stream takes an older one's place on whichever replica that is."""

import asyncio

import pytest

from agent_runtime_server.engine import frames
from agent_runtime_server.engine.feed import Feed, Wanted
from agent_runtime_server.engine.session import Session
from enginekit.refusals import refused
from enginekit.replica import OFTEN, TOOLS, replica, sender
from enginekit.turns import turns
from enginekit.wire import Wire


def seated(session: Session, client_id: str, *, executes: bool = True) -> Feed:
    feed = session.audience.follow(Wanted(session.head_seq))
    session.audience.seat(feed, client_id, executes=executes)
    return feed


async def attach(session: Session, client_id: str) -> Feed:
    await session.commit(lambda draft: frames.attach(draft, sender("", client_id), TOOLS))
    return seated(session, client_id)


async def ended(feed: Feed) -> None:
    with refused("ATTACHMENT_SUPERSEDED"):
        async with asyncio.timeout(10):
            async for _ in feed:
                pass


async def stays(feed: Feed) -> None:
    await turns()
    feed._check_end()


async def test_a_client_that_attaches_to_another_replica_ends_its_older_stream(database_url: str) -> None:
    wire = Wire()
    async with (
        replica(database_url, bus=wire.line()) as here,
        replica(database_url, bus=wire.line()) as there,
    ):
        session = await here.new_session()
        old, watching = seated(session, "c1"), seated(session, "c2", executes=False)
        there.clock.ahead = 1
        new = seated(await there.session(session.session_id), "c1")
        await ended(old)
        await stays(watching)
        await stays(new)


async def test_what_is_told_late_ends_no_newer_stream(database_url: str) -> None:
    wire = Wire()
    async with (
        replica(database_url, bus=wire.line()) as here,
        replica(database_url, bus=wire.line()) as there,
    ):
        session = await here.new_session()
        there.clock.ahead = -1
        newer = seated(session, "c1")
        seated(await there.session(session.session_id), "c1")
        await stays(newer)


@pytest.mark.parametrize("told", [True, False])
async def test_another_executor_replaces_the_one_before_whether_the_bus_tells_or_the_log(
    database_url: str, told: bool
) -> None:
    wire = Wire()
    async with (
        replica(database_url, bus=wire.line(), timing=OFTEN) as here,
        replica(database_url, bus=wire.line()) as there,
    ):
        session = await here.new_session()
        old, watching = await attach(session, "c1"), seated(session, "c3", executes=False)
        there.clock.ahead = 1
        wire.lines[0].connected = told
        await attach(await there.session(session.session_id), "c2")
        await ended(old)
        await stays(watching)
