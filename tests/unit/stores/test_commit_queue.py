"""What waits for a commit stays in bounds, and no session waits for another one's crowd."""

import asyncio

import pytest

from agent_runtime_server.core.errors import StoreUnavailable
from agent_runtime_server.stores.base import Appended, Outcome
from agent_runtime_server.stores.postgres.queue import Bounds, Queue, Waiting
from enginekit.stores import appending, event
from enginekit.turns import turns

DONE = Appended(Outcome.DONE, 0, lease_mine=False)


def put(queue: Queue, session_id: str, *, size: int = 1) -> Waiting:
    return queue.put(appending(session_id, 1, events=[event(session_id, 2, bytes(size))]))


def sessions(batch: list[Waiting]) -> list[str]:
    return [waiting.append.session_id for waiting in batch]


def drained(queue: Queue) -> list[list[str]]:
    batches = []
    while batch := queue.next_batch():
        batches.append(sessions(batch))
    return batches


async def test_a_batch_takes_one_append_of_each_session_in_the_order_they_came() -> None:
    queue = Queue()
    for session_id in ("a", "a", "b", "a", "c"):
        put(queue, session_id)
    assert drained(queue) == [["a", "b", "c"], ["a"], ["a"]]


async def test_whoever_comes_behind_a_crowd_of_another_session_is_in_the_next_batch() -> None:
    queue = Queue()
    for _ in range(5000):
        put(queue, "crowd")
    put(queue, "other")
    assert sessions(queue.next_batch()) == ["crowd", "other"]
    assert sum(len(batch) for batch in drained(queue)) == 4999, "and nothing of the crowd is lost"


async def test_whoever_comes_behind_many_sessions_is_served_before_their_second_appends() -> None:
    queue = Queue(Bounds(batch_appends=2))
    for session_id in ("a", "b", "a", "b", "c"):
        put(queue, session_id)
    assert drained(queue) == [["a", "b"], ["c", "a"], ["b"]]


@pytest.mark.parametrize("bounds", [Bounds(appends=2), Bounds(bytes=20), Bounds(appends_of_one_session=2)])
async def test_what_finds_no_room_waits_outside_and_keeps_its_order(bounds: Bounds) -> None:
    queue = Queue(bounds)
    waiting = [put(queue, "a", size=10) for _ in range(4)]
    assert (queue.appends, queue.size) == (2, 20)
    taken = [queue.next_batch()[0] for _ in range(4)]
    assert taken == waiting
    assert (queue.appends, queue.size) == (0, 0)


async def test_the_small_do_not_slip_in_before_the_large_that_waits() -> None:
    queue = Queue(Bounds(bytes=20))
    for session_id, size in (("a", 15), ("large", 10), ("small", 1)):
        put(queue, session_id, size=size)
    assert drained(queue) == [["a"], ["large", "small"]]


async def test_what_is_larger_than_the_queue_has_it_for_itself() -> None:
    queue = Queue(Bounds(bytes=20))
    put(queue, "huge", size=100)
    put(queue, "a")
    assert drained(queue) == [["huge"], ["a"]]


async def test_who_waits_outside_for_too_long_is_refused_with_a_delay() -> None:
    queue = Queue(Bounds(appends=1, outside_seconds=0))
    inside, outside = put(queue, "a"), put(queue, "b")
    with pytest.raises(StoreUnavailable, match="more is to be committed than the database takes") as refused:
        await outside.answer
    assert refused.value.to_error().retry_delay.seconds == 2
    assert not inside.answer.done(), "who is inside is committed"
    assert drained(queue) == [["a"]]


async def test_who_gave_up_outside_is_passed_over() -> None:
    queue = Queue(Bounds(appends=1))
    put(queue, "a")
    gone, stays = put(queue, "b"), put(queue, "c")
    gone.answer.cancel()
    await turns()
    assert drained(queue) == [["a"], ["c"]]
    stays.done(DONE)
    assert await asyncio.wait_for(stays.answer, 1) == DONE


async def test_everybody_is_told_when_all_is_over() -> None:
    queue = Queue(Bounds(appends=1))
    waiting = [put(queue, session_id) for session_id in ("a", "b", "b")]
    assert queue.everybody() == waiting
    assert drained(queue) == []
    assert put(queue, "d") in queue.next_batch(), "and there is room again"
