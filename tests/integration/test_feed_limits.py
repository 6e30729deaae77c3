"""What a feed owes a reader who selects, acknowledges late, or takes nothing."""

import asyncio
from collections.abc import Sequence
from typing import Any

from agent_runtime import v1
from agent_runtime_server.engine import feed as feed_module
from agent_runtime_server.engine.feed import Feed, Wanted, heartbeat
from agent_runtime_server.stores.base import StoredEvent
from enginekit.turns import turns


class Log:
    """A session whose log is at hand."""

    def __init__(self, events: int) -> None:
        self.events = [StoredEvent(seq, 11, b"x") for seq in range(1, events + 1)]
        self.head_seq = events

    def recent(self, after_seq: int) -> Sequence[StoredEvent]:
        return self.events[after_seq:]

    def texts(self) -> Sequence[v1.MessageDelta]:
        return ()

    def at_rest(self) -> bool:
        return False


def feed_of(log: Log, wanted: Wanted) -> Feed:
    async def never(_after_seq: int, _limit: int) -> Sequence[StoredEvent]:
        raise AssertionError("everything is at hand")

    return Feed(log, never, wanted)


async def taken(feed: Feed, into: list[Any]) -> None:
    async for item in feed:
        into.append(item)  # noqa: PERF401 - each is seen as it comes


async def test_events_that_are_not_sent_do_not_stand_for_a_heartbeat() -> None:
    feed = feed_of(Log(3), Wanted(0, kinds={99}))
    feed.last_sent -= 100
    since, items = feed.last_sent, list[Any]()
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(taken(feed, items))
        await turns()
        assert [type(item) for item in items] == [v1.CaughtUp]
        feed.last_sent = since
        feed.offer([StoredEvent(4, 11, b"x")])
        await turns()
        assert feed.last_sent == since
        feed.beat(15)
        await turns()
        assert isinstance(items[-1], v1.Heartbeat)
        reading.cancel()


async def test_a_reader_at_the_head_is_told_so_before_it_acknowledges() -> None:
    items = list[Any]()
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(taken(feed_of(Log(3), Wanted(0, most_unacked=3)), items))
        await turns()
        assert items[-1] == v1.CaughtUp(head_seq=3)
        reading.cancel()


async def test_there_is_no_room_for_more_frames_while_answers_are_not_taken() -> None:
    feed = feed_of(Log(0), Wanted(0))
    for nonce in range(feed_module._MOST_CONTROLS):
        feed.answer(heartbeat(0, nonce))
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(feed.room())
        await turns()
        assert not waiting.done()
        reading = group.create_task(taken(feed, []))
        await waiting
        reading.cancel()
