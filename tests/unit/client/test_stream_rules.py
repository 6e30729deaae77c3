"""The rules of one stream after the other: outbox, cursor, delays, verdicts, the reviewer's inbox."""

import asyncio
import random

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_runtime import v1
from agent_runtime_client.cursor import Cursor, Place
from agent_runtime_client.errors import CallFailed, NotAllowed, Superseded
from agent_runtime_client.inbox import Inbox
from agent_runtime_client.mailbox import Mailbox
from agent_runtime_client.outbox import Outbox
from agent_runtime_client.reconnect import GiveUp, Refresh, Restart, Retry, judge
from agent_runtime_client.status import Problem
from agent_runtime_client.timing import Backoff, Timing
from clientkit.events import event

Code = grpc.StatusCode


@given(st.lists(st.integers(1, 6), max_size=40))
def test_each_seq_passes_once_and_in_order(seqs: list[int]) -> None:
    cursor = Cursor()
    passed = [seq for seq in seqs if cursor.step(seq) is Place.NEXT]
    assert passed == list(range(1, len(passed) + 1))
    assert cursor.last == len(passed)


def test_a_gap_does_not_move_the_cursor() -> None:
    cursor = Cursor(4)
    assert cursor.step(6) is Place.GAP
    assert cursor.step(4) is Place.KNOWN
    assert cursor.step(5) is Place.NEXT


@given(st.lists(st.tuples(st.sampled_from(["add", "ack", "event"]), st.integers(0, 9)), max_size=40))
def test_the_outbox_keeps_what_is_not_confirmed_in_order(steps: list[tuple[str, int]]) -> None:
    outbox: Outbox[v1.ChatRequest] = Outbox()
    kept: dict[str, None] = {}
    for step, number in steps:
        frame_id = f"f{number}"
        if step == "add":
            outbox.add(v1.ChatRequest(frame_id=frame_id))
            kept.setdefault(frame_id)
        elif step == "ack":
            assert outbox.on_ack(v1.FrameAck(frame_id=frame_id)) == (frame_id in kept)
            kept.pop(frame_id, None)
        else:
            assert (outbox.on_event(event(1, frame_id=frame_id)) is not None) == (frame_id in kept)
            kept.pop(frame_id, None)
    assert [frame.frame_id for frame in outbox.pending()] == list(kept)


def test_a_frame_without_an_id_is_a_mistake() -> None:
    outbox: Outbox[v1.ChatRequest] = Outbox()
    with pytest.raises(ValueError, match="frame_id"):
        outbox.add(v1.ChatRequest())


def test_delays_grow_to_a_ceiling_and_start_over() -> None:
    backoff = Backoff(Timing(), spread=lambda low, high: (low + high) / 2)
    delays = [backoff.next_delay() for _ in range(12)]
    assert delays[:4] == pytest.approx([0.2, 0.32, 0.512, 0.8192])
    assert delays[-1] == pytest.approx(10)
    backoff.reset()
    assert backoff.next_delay() == pytest.approx(0.2)


@given(st.integers(0, 5000), st.one_of(st.none(), st.floats(0.001, 3600)), st.randoms())
def test_delays_are_spread_by_a_fifth_and_never_below_what_was_asked(
    failures: int, asked: float | None, chance: random.Random
) -> None:
    backoff = Backoff(Timing(), spread=chance.uniform)
    for _ in range(min(failures, 80)):
        backoff.next_delay()
    delay = backoff.next_delay(asked)
    assert (asked <= delay <= asked * 1.2) if asked else (0.16 <= delay <= 12)


@pytest.mark.parametrize(
    "code", [Code.OK, Code.CANCELLED, Code.UNKNOWN, Code.DEADLINE_EXCEEDED, Code.INTERNAL, Code.UNAVAILABLE]
)
def test_transient_ends_are_retried(code: grpc.StatusCode) -> None:
    assert judge(Problem(code, retry_delay=3)) == Retry(3)


@pytest.mark.parametrize(
    "code",
    [
        Code.INVALID_ARGUMENT,
        Code.PERMISSION_DENIED,
        Code.NOT_FOUND,
        Code.FAILED_PRECONDITION,
        Code.ABORTED,
        Code.UNIMPLEMENTED,
        Code.RESOURCE_EXHAUSTED,
        Code.OUT_OF_RANGE,
        Code.DATA_LOSS,
        Code.ALREADY_EXISTS,
    ],
)
def test_other_ends_are_final(code: grpc.StatusCode) -> None:
    assert isinstance(judge(Problem(code)), GiveUp)


def test_the_special_ends() -> None:
    assert judge(Problem(Code.RESOURCE_EXHAUSTED, retry_delay=1)) == Retry(1)
    assert judge(Problem(Code.UNAUTHENTICATED)) == Refresh()
    refused = judge(Problem(Code.UNAUTHENTICATED), refreshed=True)
    assert isinstance(refused, GiveUp)
    assert isinstance(refused.error, NotAllowed)
    compacted = Problem(Code.OUT_OF_RANGE, reason="SEQ_COMPACTED", metadata={"oldestSeq": "8"})
    assert judge(compacted) == Restart(7)
    superseded = judge(Problem(Code.ABORTED, reason="ATTACHMENT_SUPERSEDED"))
    assert isinstance(superseded, GiveUp)
    assert isinstance(superseded.error, Superseded)
    assert isinstance(superseded.error, CallFailed)


def approval(revision: int, *, pending: bool = True, key: str = "a") -> v1.Approval:
    state = v1.APPROVAL_STATE_PENDING if pending else v1.APPROVAL_STATE_APPROVED
    return v1.Approval(approval_id=key, revision=revision, state=state)


def test_each_revision_of_an_approval_is_news_once() -> None:
    inbox = Inbox()
    news = [inbox.is_news(approval(revision)) for revision in (1, 1, 2, 1)]
    assert news == [True, False, True, False]
    assert inbox.is_news(approval(3, pending=False))
    assert not inbox.is_news(approval(2))


def test_a_full_list_shows_which_pending_ones_are_gone() -> None:
    inbox = Inbox()
    for key in ("a", "b", "c"):
        inbox.is_news(approval(1, key=key))
    inbox.is_news(approval(2, key="c", pending=False))
    inbox.begin_list()
    inbox.is_news(approval(1, key="b"))
    assert inbox.end_list() == ["a"]
    assert inbox.end_list() == []


async def test_a_full_box_holds_the_writer_until_there_is_room() -> None:
    box: Mailbox[int] = Mailbox(limit=1)
    await box.put(1)
    box.offer(2)
    async with asyncio.TaskGroup() as group:
        writing = group.create_task(box.put(3))
        await asyncio.sleep(0)
        assert not writing.done()
        assert await box.take() == 1
    assert await box.take() == 3


async def test_whoever_waits_for_an_ack_lifts_the_limit() -> None:
    box: Mailbox[int] = Mailbox(limit=1)
    await box.put(1)
    async with asyncio.TaskGroup() as group:
        writing = group.create_task(box.put(2))
        await asyncio.sleep(0)
        with box.unbounded():
            await writing
    assert [await box.take() for _ in range(2)] == [1, 2]


async def test_a_closed_box_is_read_to_its_end() -> None:
    box: Mailbox[int] = Mailbox()
    await box.put(1)
    box.close(ValueError("why"))
    assert await box.take() == 1
    with pytest.raises(ValueError, match="why"):
        await box.take()
