"""What one stream is sent: every event once and in order, whatever its reader and the log do."""

import asyncio
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_runtime import v1
from agent_runtime_server.core.errors import CallerError
from agent_runtime_server.engine.feed import Control, Feed, Item, Wanted, heartbeat
from agent_runtime_server.engine.watch import Watch
from agent_runtime_server.stores.base import StoredEvent
from enginekit.turns import turns

from .feeds import BIG, Log, Reader, delta, reading


async def test_the_log_is_replayed_then_followed() -> None:
    log = Log(2)
    async with reading(log.feed()) as reader:
        await reader.read()
        log.commit()
        await reader.read()
    assert reader.told == ["1", "2", "caught up 2", "3"]


async def test_a_reader_begins_where_it_was() -> None:
    log = Log(5)
    async with reading(log.feed(after_seq=3)) as reader:
        await reader.read()
    assert reader.told == ["4", "5", "caught up 5"]
    assert not log.reads, "what is at hand is not read from the store"


async def test_a_reader_of_all_there_is_is_caught_up_at_once() -> None:
    async with reading(Log(5).feed(after_seq=5)) as reader:
        await reader.read()
    assert reader.told == ["caught up 5"]


async def test_a_long_log_is_read_in_pages() -> None:
    log = Log(450)
    async with reading(log.feed()) as reader:
        await reader.read()
    assert reader.seqs == [*range(1, 451)]
    assert log.reads == [(0, 200), (200, 200), (400, 200)]


async def test_a_commit_while_the_log_is_read_is_not_missed() -> None:
    log = Log(10)
    log.gate.clear()
    async with reading(log.feed()) as reader:
        await reader.read()
        log.commit(2)
        log.gate.set()
        await reader.read()
    assert reader.told == [*(str(seq) for seq in range(1, 13)), "caught up 12"]


async def test_text_being_written_comes_whole_to_who_attaches() -> None:
    log = Log(1)
    log.write("Hel")
    async with reading(log.feed()) as reader:
        await reader.read()
        log.write("lo")
        await reader.read()
    assert reader.told == ["1", "caught up 1", "=Hel", "+lo"]


async def test_ephemeral_frames_keep_their_place_among_the_events() -> None:
    log = Log()
    async with reading(log.feed()) as reader:
        await reader.read()
        log.write("Hello")
        log.commit()
        log.write("Bye")
        log.feeds[0].offer([v1.ToolProgress(call_id="call-1", text="10 %")])
        await reader.read()
    assert reader.told == ["caught up 0", "+Hello", "1", "+Bye", "ToolProgress"]


async def test_who_wants_no_ephemeral_frames_gets_none() -> None:
    log = Log(1)
    log.write("Hello")
    async with reading(log.feed(ephemeral=False)) as reader:
        await reader.read()
        log.write("Bye")
        log.commit()
        await reader.read()
    assert reader.told == ["1", "caught up 1", "2"]


async def test_a_slow_reader_is_not_queued_for_but_reads_the_log_again() -> None:
    log = Log()
    async with reading(log.feed()) as reader:
        await reader.read(1)
        log.write("a")
        log.commit(4, BIG)
        log.write("b")
        await reader.read()
    assert reader.told == ["caught up 0", "1", "2", "3", "4", "=ab"]
    assert log.reads == [(0, 200)]


async def test_many_small_frames_are_too_many_too() -> None:
    log = Log()
    async with reading(log.feed()) as reader:
        await reader.read(1)
        for _ in range(1100):
            log.write("x")
        await reader.read()
    assert reader.told == ["caught up 0", "=" + "x" * 1100]


async def test_a_reader_that_keeps_up_may_read_any_amount() -> None:
    log = Log()
    async with reading(log.feed()) as reader:
        for _ in range(9):
            await reader.read()
            log.commit(1, BIG)
        await reader.read()
    assert reader.seqs == [*range(1, 10)]
    assert not log.reads


async def test_a_gap_in_what_is_offered_is_read_from_the_log() -> None:
    log = Log()
    feed = log.feed()
    async with reading(feed) as reader:
        await reader.read()
        log.feeds.clear()
        log.commit(2)
        feed.offer(log.events[1:])
        await reader.read()
    assert reader.seqs == [1, 2]


async def test_what_is_offered_twice_is_sent_once() -> None:
    log = Log()
    feed = log.feed()
    async with reading(feed) as reader:
        await reader.read()
        log.commit(2)
        feed.offer(log.events)
        await reader.read()
    assert reader.seqs == [1, 2]


async def test_answers_come_behind_the_events_that_are_out_already() -> None:
    log = Log()
    async with reading(log.feed()) as reader:
        await reader.read()
        log.commit()
        log.feeds[0].answer(v1.FrameAck(seq=1))
        await reader.read()
    assert reader.told == ["caught up 0", "1", "FrameAck"]


async def test_answers_are_never_dropped() -> None:
    log = Log()
    async with reading(log.feed()) as reader:
        await reader.read(1)
        log.feeds[0].answer(v1.FrameAck())
        log.commit(4, BIG)
        await reader.read()
    assert reader.told == ["caught up 0", "FrameAck", "1", "2", "3", "4"], "they do not wait for a replay"


async def test_who_asks_waits_while_its_reader_takes_no_answers() -> None:
    feed = Log().feed()
    async with reading(feed) as reader, asyncio.TaskGroup() as group:
        await feed.room()
        while not feed.crowded:
            feed.answer(v1.FrameAck())
        waiting = group.create_task(feed.room())
        await turns()
        assert not waiting.done()
        await reader.read()
        assert waiting.done()


async def test_a_reader_may_want_some_kinds_of_events_only() -> None:
    log = Log(4)
    log.events[2] = StoredEvent(3, 2, b"x")
    feed = Feed(log, log.read, Wanted(0, kinds={2}, progress=False))
    log.feeds.append(feed)
    async with reading(feed) as reader:
        await reader.read()
        feed.offer([v1.ToolProgress(call_id="call-1")])
        log.commit(2)
        log.write("Hello")
        await reader.read()
    assert reader.told == ["3", "caught up 4", "+Hello"]


async def test_events_wait_for_acknowledgement_when_the_reader_bounds_them() -> None:
    log = Log(5)
    feed = log.feed(most_unacked=2)
    async with reading(feed) as reader:
        await reader.read()
        assert reader.told == ["1", "2"]
        feed.acknowledge(2)
        feed.acknowledge(1)
        await reader.read()
        assert reader.seqs == [1, 2, 3, 4], "an older acknowledgement takes nothing back"
        feed.answer(v1.Heartbeat())
        await reader.read()
        assert reader.told[-1] == "Heartbeat", "control frames need no acknowledgement"
        feed.acknowledge(5)
        await reader.read()
        assert reader.seqs == [1, 2, 3, 4, 5]
        log.commit(3)
        await reader.read()
        assert reader.seqs[5:] == [6, 7]
        feed.acknowledge(7)
        await reader.read()
    assert reader.seqs == [*range(1, 9)]


async def test_a_half_closed_stream_ends_when_nothing_more_is_to_come() -> None:
    log = Log(1)
    feed = log.feed()
    async with reading(feed) as reader:
        feed.half_close()
        await reader.read()
        assert not reader.has_ended(), "a turn is running"
        log.resting = True
        log.commit()
        await reader.read()
        assert reader.has_ended()
    assert (reader.told, reader.error) == (["1", "caught up 1", "2"], None)


async def test_a_half_closed_stream_gets_what_nobody_can_acknowledge_or_ask_for_any_more() -> None:
    log = Log(5)
    log.resting = True
    feed = log.feed(most_unacked=2)
    feed.reads = True
    async with reading(feed) as reader:
        await reader.read()
        assert reader.seqs == [1, 2]
        feed.pinged(7)
        feed.half_close()
        await reader.read()
        assert reader.has_ended()
    assert reader.seqs == [1, 2, 3, 4, 5]
    assert [item.ping_nonce for item in reader.items if isinstance(item, v1.Heartbeat)] == [7]
    assert not feed.reads, "its silence is no reason to end it"


async def test_a_stream_ends_with_its_error_at_once() -> None:
    log = Log(1)
    feed = log.feed()
    async with reading(feed) as reader:
        await reader.read()
        log.commit()
        feed.end(CallerError(v1.ERROR_REASON_ATTACHMENT_SUPERSEDED, "another one attached"))
        feed.end(CallerError(v1.ERROR_REASON_CLIENT_IDLE_TIMEOUT, "too late"))
        await reader.read()
    assert reader.error is not None
    assert reader.error.wire_reason == "ATTACHMENT_SUPERSEDED", "the first reason stands"
    assert reader.seqs == [1]


async def test_a_stream_ends_in_the_middle_of_a_page() -> None:
    feed = Log(100).feed()
    async with reading(feed) as reader:
        await reader.read(10)
        feed.end(CallerError(v1.ERROR_REASON_ATTACHMENT_SUPERSEDED, "another one attached"))
        await reader.read()
    assert len(reader.seqs) == 10
    assert reader.error is not None


async def test_a_heartbeat_comes_after_silence_only() -> None:
    log = Log(3)
    feed = log.feed()
    async with reading(feed) as reader:
        await reader.read()
        feed.beat(15)
        await reader.read()
        assert reader.told[-1] == "caught up 3"
        feed.last_sent -= 15
        feed.beat(15)
        feed.beat(15)
        await reader.read()
    assert reader.told[3:] == ["caught up 3", "Heartbeat"]
    beat = reader.items[-1]
    assert isinstance(beat, v1.Heartbeat)
    assert beat.head_seq == 3


def test_a_heartbeat_may_answer_a_ping() -> None:
    assert heartbeat(7, nonce=42).ping_nonce == 42


async def test_pings_are_answered_with_the_next_beat_or_when_there_are_many() -> None:
    feed = Log(3).feed()
    feed.watch = Watch()

    def nonces() -> list[int]:
        return [item.ping_nonce for item in reader.items if isinstance(item, v1.Heartbeat)]

    async with reading(feed) as reader:
        feed.pinged(1)
        feed.pinged(2)
        await reader.read()
        assert nonces() == []
        assert feed.watch.take(0) == [feed], "somebody has to look after it"
        feed.beat(15)
        feed.beat(15)
        await reader.read()
        assert nonces() == [1, 2]
        for nonce in range(3, 20):
            feed.pinged(nonce)
        await reader.read()
    assert nonces()[2:] == [*range(3, 12)]


@pytest.mark.parametrize("fits", [True, False])
async def test_a_heartbeat_slips_in_while_the_reader_waits_if_it_can(fits: bool) -> None:
    feed, slipped = Log(3).feed(), list[v1.Heartbeat]()

    def slip_in(control: Control) -> bool:
        assert isinstance(control, v1.Heartbeat)
        slipped.append(control)
        return fits

    feed.slip_in = slip_in
    feed.pinged(1)
    feed.beat(15)
    assert slipped == [], "nobody waits yet"
    async with reading(feed) as reader:
        await reader.read()
        feed.pinged(2)
        feed.beat(15)
        assert [item.ping_nonce for item in slipped] == [2]
        await reader.read()
    assert [item.ping_nonce for item in reader.items[4:] if isinstance(item, v1.Heartbeat)] == [1] + [2] * (not fits)


async def test_text_does_not_hold_up_the_ack_of_an_event_that_is_out() -> None:
    log = Log(3)
    feed = log.feed()
    async with reading(feed) as reader:
        await reader.read()
        log.commit()
        feed.offer([delta("a"), delta("b")])
        feed.answer(v1.FrameAck(seq=4))
        await reader.read()
    assert reader.told[4:] == ["4", "FrameAck", "+a", "+b"]


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("commit"), st.integers(1, 6)),
        st.tuples(st.just("commit big"), st.integers(1, 4)),
        st.tuples(st.just("write"), st.integers(1, 3)),
        st.tuples(st.just("flood"), st.integers(1, 2)),
        st.tuples(st.just("read"), st.integers(1, 9)),
        st.tuples(st.just("acknowledge"), st.integers(0, 9)),
        st.tuples(st.just("log answers"), st.integers(0, 1)),
        st.tuples(st.just("offer again"), st.integers(1, 5)),
    ),
    max_size=40,
)


def play(log: Log, feed: Feed, reader: Reader) -> Callable[[str, int], None]:
    def act(name: str, number: int) -> None:
        match name:
            case "commit":
                log.commit(number)
            case "commit big":
                log.commit(number, BIG)
            case "write":
                log.write("x" * number)
            case "flood":
                for _ in range(number * 600):
                    log.write("y")
            case "acknowledge":
                feed.acknowledge(min(number, reader.seqs[-1] if reader.seqs else 0))
            case "log answers":
                log.gate.set() if number else log.gate.clear()
            case "offer again":
                feed.offer(log.events[-number:])

    return act


@settings(max_examples=150, deadline=None)
@given(actions=ACTIONS, before=st.integers(0, 8), after_seq=st.integers(0, 8), most_unacked=st.integers(0, 3))
async def test_every_event_is_sent_once_and_in_order(
    actions: list[tuple[str, int]], before: int, after_seq: int, most_unacked: int
) -> None:
    log = Log(before)
    after_seq = min(after_seq, before)
    feed = log.feed(after_seq, most_unacked=most_unacked)
    async with reading(feed) as reader:
        act = play(log, feed, reader)
        for name, number in actions:
            act(name, number)
            await reader.read(number if name == "read" else 0)
        log.gate.set()
        await reader.read(100_000)
        while reader.seqs[-1:] != [log.head_seq] and log.head_seq > after_seq:
            before_ack = len(reader.items)
            feed.acknowledge(reader.seqs[-1] if reader.seqs else 0)
            await reader.read(0)
            assert len(reader.items) > before_ack, "the feed stands still"
        await reader.read(0)
    assert reader.seqs == [*range(after_seq + 1, log.head_seq + 1)]
    assert sum(isinstance(item, v1.CaughtUp) for item in reader.items) == 1
    assert shown_text(reader.items) == log.text


def shown_text(items: Sequence[Item]) -> str:
    """What a client shows: a replacing delta stands for all before it."""
    text = ""
    for item in items:
        if isinstance(item, v1.MessageDelta):
            text = item.text if item.replace else text + item.text
    return text


async def test_a_stream_stays_while_the_log_cannot_be_read_and_goes_on_when_it_can() -> None:
    log = Log(events=10, at_hand=0)
    log.away = True
    async with reading(log.feed()) as reader:
        await reader.read()
        assert reader.told == []
        log.feeds[0].answer(heartbeat(10))
        await turns()
        assert [type(item) for item in reader.items] == [v1.Heartbeat], "whoever waits hears that the server lives"
        log.away = False
        log.feeds[0].answer(heartbeat(10))  # or the pause ends
        await turns()
        assert reader.seqs == [*range(1, 11)]
        assert reader.error is None


async def test_a_stream_looks_again_by_itself_when_the_log_could_not_be_read() -> None:
    log = Log(events=3, at_hand=0)
    log.away = True
    async with reading(log.feed()) as reader:
        await reader.read()
        log.away = False
        async with asyncio.timeout(20):
            while reader.seqs != [1, 2, 3]:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
