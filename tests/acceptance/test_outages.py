"""Redis or Postgres goes away under load and comes back: nobody is cut off, nothing fails, nothing is lost."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from agent_runtime import v1
from outagekit.outage import run, table
from outagekit.world import Size, World, world
from servicekit.service import Service, reason_of

pytestmark = pytest.mark.timeout(300)


async def test_turns_go_on_without_redis_and_finish_after_postgres_was_away() -> None:
    # Of a shorter outage of Postgres nobody need hear: a writer looks for up to 5 s what became of its last commit.
    outcome = await run(redis=3, postgres=8, size=Size(2, 1, 3), calm=1, tell=lambda _text: None)
    assert outcome.clean, f"{table(outcome)}\n{outcome.log}"
    redis, postgres = outcome.outages
    assert redis.during, "turns ended while Redis was away"
    assert redis.refusals == 0, "clients were told nothing of it"
    assert postgres.refusals, "clients were told to wait"
    assert (redis.disconnects, postgres.disconnects) == (0, 0), "streams stay up"


@pytest.fixture
async def lonely() -> AsyncIterator[World]:
    """One server and nobody who talks to it."""
    async with world(Size(1, 0, 0), {"AGENT_RUNTIME_HEARTBEAT_SECONDS": "1"}) as made:
        yield made


async def test_without_postgres_frames_and_hellos_are_refused_for_now_and_streams_stay(lonely: World) -> None:
    service = Service(lonely.servers[0].target)
    async with service.channel:
        session_id = await service.new_session("ask")
        async with service.chat(session_id) as chat:
            await chat.caught_up()
            await lonely.postgres.kill()
            message = v1.UserMessage(parts=[v1.Part(text="hello")])
            ack = await chat.submit(user_message=message)
            while ack.outcome == v1.FrameAck.OUTCOME_ACCEPTED:  # what serves connections outlives Postgres for a moment
                ack = await chat.submit(user_message=message)
            refused = ack.frame_id
            assert ack.error.reason == "DEPENDENCY_UNAVAILABLE"
            assert ack.error.retry_delay.seconds in (1, 2, 3), "not all at once"
            async with service.chat(session_id, client_id="late") as late:
                problem = await late.end()
            assert problem is not None
            assert reason_of(problem)[0] == "DEPENDENCY_UNAVAILABLE"
            await chat.frame("heartbeat", len(chat.all("heartbeat")))
            await lonely.postgres.start()
            async with asyncio.timeout(60):
                while ack.outcome == v1.FrameAck.OUTCOME_REJECTED:
                    await asyncio.sleep(ack.error.retry_delay.seconds)
                    ack = await chat.submit(frame_id=refused, user_message=message)
            assert ack.outcome == v1.FrameAck.OUTCOME_ACCEPTED
            await chat.event("tool_call_dispatched")
            assert not chat.ended
