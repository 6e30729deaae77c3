"""What a stream is sent goes out in as few pieces as can be, and none of them is large."""

import pytest

from agent_runtime import v1

from .feeds import Log, tell


async def test_what_is_there_at_the_same_moment_goes_out_together() -> None:
    log = Log()
    feed = log.feed()
    bursts = feed.bursts()
    assert [tell(item) for item in await anext(bursts)] == ["caught up 0"]
    log.write("a")
    log.write("b")
    log.commit()
    feed.answer(v1.FrameAck(seq=1))
    assert [tell(item) for item in await anext(bursts)] == ["+a", "+b", "1", "FrameAck"]


@pytest.mark.parametrize(("events", "size", "together"), [(100, 1, [32, 32, 32, 5]), (3, 20_000, [1, 1, 1, 1])])
async def test_a_burst_is_small_enough_for_an_answer_to_wait_for(events: int, size: int, together: list[int]) -> None:
    log = Log()
    log.commit(events, b"x" * size)
    bursts = log.feed().bursts()
    assert [len(await anext(bursts)) for _ in together] == together
