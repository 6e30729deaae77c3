"""What a feed has to say passes by whoever writes its stream, while that has nothing to do."""

import pytest

from agent_runtime import v1

from .feeds import Log, reading


@pytest.mark.parametrize("fits", [True, False])
async def test_what_comes_slips_in_while_the_reader_waits_if_it_can(fits: bool) -> None:
    log = Log(3)
    feed = log.feed()
    async with reading(feed) as reader:
        await reader.read()
        reader.lets_in = fits
        log.write("a")
        assert reader.told[4:] == ["+a"] * fits
        await reader.read()
        log.commit(2)
        assert reader.told[5:] == ["4", "5"] * fits
        await reader.read()
        feed.pinged(1)
        feed.beat(15)
        assert reader.told[7:] == ["Heartbeat"] * fits
        await reader.read()
    assert reader.told[4:] == ["+a", "4", "5", "Heartbeat"]


async def test_nothing_slips_in_before_what_waits_for_the_reader() -> None:
    log = Log(3)
    async with reading(log.feed()) as reader:
        reader.lets_in = True
        await reader.read(4)
        log.write("a")
        log.commit()
        assert reader.told == ["1", "2", "3", "caught up 3"], "the reader is not through with them"
        await reader.read()
    assert reader.told[4:] == ["+a", "4"]


async def test_nothing_slips_in_while_a_frame_is_taken_so_that_its_answer_leaves_with_what_it_brought() -> None:
    log = Log(3)
    feed = log.feed()
    async with reading(feed) as reader:
        reader.lets_in = True
        await reader.read()
        feed.taking = True
        log.commit()
        assert reader.told[4:] == []
        feed.answer(v1.FrameAck(seq=4))
        await reader.read()
    assert reader.told[4:] == ["4", "FrameAck"]


async def test_what_slips_in_waits_for_acknowledgements_too() -> None:
    log = Log(3)
    feed = log.feed(most_unacked=2)
    async with reading(feed) as reader:
        reader.lets_in = True
        feed.acknowledge(2)
        await reader.read()
        log.commit(2)
        assert reader.seqs == [1, 2, 3, 4]
        feed.acknowledge(4)
        await reader.read()
    assert reader.seqs == [1, 2, 3, 4, 5]
