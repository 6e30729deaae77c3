"""What is old goes, and nobody who goes on with a session notices, whichever replica does it and whoever reads."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from agent_runtime import v1
from agent_runtime_server.core.errors import CallerError
from agent_runtime_server.engine import lifecycle
from agent_runtime_server.engine.compaction import Compactor
from agent_runtime_server.engine.feed import Feed, Wanted
from agent_runtime_server.engine.retention import SNAPSHOT_EVENTS, Keeper, Policy
from agent_runtime_server.engine.session import Session
from agent_runtime_server.engine.snapshot import UnreadableError
from agent_runtime_server.engine.state import State
from agent_runtime_server.engine.turn import FOLD_VERSION, apply
from agent_runtime_server.stores.base import Snapshot
from agent_runtime_server.stores.upkeep import SessionName
from enginekit.history import lengthen
from enginekit.model import Answer
from enginekit.refusals import refused
from enginekit.replica import Replica, as_event, kinds, log, replica, until, wish
from enginekit.stores import TENANT

READ = ("read_file", {"path": "a.py"})
NOTHING = timedelta(0)


@pytest.fixture
async def here(database_url: str) -> AsyncIterator[Replica]:
    async with replica(database_url) as made:
        yield made


@pytest.fixture
async def there(database_url: str) -> AsyncIterator[Replica]:
    """Another replica on the same database."""
    async with replica(database_url) as made:
        yield made


@pytest.fixture
async def long(here: Replica) -> str:
    """A session of many turns, as every replica reads it."""
    session = await here.new_session(session_id="long")
    await lengthen(here.stores, session.session_id, 300)
    await session.refresh()
    return session.session_id


def keeper(at: Replica, **fields: Any) -> Keeper:
    plain: dict[str, Any] = {"keep_events": 100, "buried_after": NOTHING, "every": NOTHING}
    return Keeper(at.hub, at.stores.log, at.stores.retention, Policy(**plain | fields))


async def compact(at: Replica, session_id: str, keep: int = 100) -> None:
    await Compactor(at.stores.log, at.stores.retention, keep).compact(SessionName(TENANT, session_id))


async def oldest(at: Replica, session_id: str) -> int:
    row = await at.stores.log.row(TENANT, session_id)
    assert row is not None
    return row.session.oldest_seq


def folded(events: list[v1.SessionEvent]) -> State:
    state = State(events[0].session_id)
    for event in events:
        apply(state, event)
    return state


async def read(feed: Feed) -> list[v1.SessionEvent]:
    """Return what a feed shows until it is caught up."""
    events: list[v1.SessionEvent] = []
    async for item in feed:
        if isinstance(item, v1.CaughtUp):
            break
        if (event := as_event(item)) is not None:
            events.append(event)
    return events


class TestSnapshots:
    async def test_are_kept_of_sessions_that_have_grown(self, here: Replica, there: Replica) -> None:
        session = await here.new_session()
        await lengthen(here.stores, session.session_id, SNAPSHOT_EVENTS)
        anew = await there.session(session.session_id)
        await keeper(there).keep_snapshots()
        loaded = await there.stores.log.load(TENANT, session.session_id, FOLD_VERSION)
        assert loaded is not None
        assert loaded.snapshot is not None
        assert (loaded.snapshot.seq, loaded.events) == (anew.head_seq, [])
        assert anew.unsaved == 0

    async def test_the_next_replica_goes_on_from_there(self, here: Replica, there: Replica, long: str) -> None:
        mine = here.alone(long)
        await mine.load()
        snapshot = await mine.snapshot()
        assert snapshot is not None
        await here.stores.retention.save(long, snapshot)
        await here.say(await here.session(long), "one more")
        theirs = await there.session(long)
        assert theirs.unsaved < SNAPSHOT_EVENTS
        assert await theirs.load() == folded(await log(theirs))

    async def test_readers_miss_nothing_when_a_session_is_read_anew_from_a_snapshot(
        self, here: Replica, there: Replica, long: str
    ) -> None:
        mine, theirs = await here.session(long), await there.session(long)
        feed = mine.audience.follow(Wanted(mine.head_seq))
        assert await read(feed) == []
        head = mine.head_seq
        await lengthen(there.stores, long, 100)
        await theirs.refresh()
        snapshot = await theirs.snapshot()
        assert snapshot is not None
        await there.stores.retention.save(long, snapshot)
        mine._forget()
        await mine.load()
        seen = []
        async for item in feed:
            if (event := as_event(item)) is not None:
                seen.append(event.seq)
            if len(seen) == 500:
                break
        assert seen == [*range(head + 1, head + 501)]


class TestCompaction:
    async def test_the_session_goes_on_as_if_nothing_were_missing(
        self, here: Replica, there: Replica, long: str
    ) -> None:
        whole = await log(await here.session(long))
        await compact(here, long)
        assert await oldest(here, long) == len(whole) - 99
        assert await (await there.session(long)).load() == folded(whole)
        asked = await there.say(await there.session(long), "and now?")
        await until(await there.session(long), "turn_finished", after_seq=asked.seq)
        told = [message["content"] for message in there.model.requests[-1].messages if message["role"] == "user"]
        assert told[-2:] == ["again", "and now?"]
        assert len(told) > 200, "the model is told of more than the log still has"

    async def test_sessions_are_found_by_their_snapshots(self, here: Replica, there: Replica, long: str) -> None:
        await keeper(here).compact()
        assert await oldest(here, long) == 1
        _loaded = await there.session(long)
        await keeper(there).keep_snapshots()
        await keeper(here).compact()
        assert await oldest(here, long) > 1

    async def test_nothing_is_removed_when_all_is_kept(self, here: Replica, long: str) -> None:
        await keeper(here).keep_snapshots()
        await keeper(here, keep_events=0).compact()
        assert await oldest(here, long) == 1

    async def test_of_two_replicas_at_it_none_spoils_it(self, here: Replica, there: Replica, long: str) -> None:
        whole = await log(await here.session(long))
        session = await here.session(long)
        await asyncio.gather(
            *(compact(one, long, keep=50) for one in (here, there, here)),
            *(here.say(session, "meanwhile") for _ in range(3)),
        )
        await compact(there, long, keep=50)
        rest = await log(session)
        assert [event.seq for event in rest] == [*range(rest[0].seq, rest[-1].seq + 1)]
        assert rest[0].seq == await oldest(here, long) > len(whole) - 60
        anew = there.alone(long)
        assert await anew.load() == folded(whole[: rest[0].seq - 1] + rest)

    async def test_the_running_turn_stays_whole(self, here: Replica, long: str) -> None:
        session = await here.session(long)
        here.model.then(Answer(calls=(READ,)))
        asked = await here.say(session)
        await until(session, "tool_call_dispatched", after_seq=asked.seq)
        await compact(here, long, keep=1)
        assert await oldest(here, long) == asked.seq
        [call] = (await session.load()).turn.open_calls  # type: ignore[union-attr]
        await here.result(session, call.call.call_id)
        await until(session, "turn_finished", after_seq=asked.seq)

    async def test_a_frame_of_a_compacted_event_is_known_for_ever(self, here: Replica, there: Replica) -> None:
        session = await here.new_session()
        first = await here.say(session, frame_id="f-1")
        await until(session, "turn_finished")
        await lengthen(here.stores, session.session_id, 60)
        await session.refresh()
        await compact(here, session.session_id)
        again = await there.say(await there.session(session.session_id), frame_id="f-1")
        assert (again.seq, again.duplicate) == (first.seq, True)


class TestReaders:
    async def test_one_that_is_overtaken_is_told_where_to_go_on(self, here: Replica, long: str) -> None:
        session = await here.session(long)
        feed = session.audience.follow(Wanted(0))
        items = aiter(feed)
        assert as_event(await anext(items)) is not None
        await compact(here, long)
        with refused("SEQ_COMPACTED", oldestSeq=str(await oldest(here, long)), headSeq=str(session.head_seq)):
            while True:
                await anext(items)

    async def test_one_that_is_ahead_of_it_notices_nothing(self, here: Replica, long: str) -> None:
        session = await here.session(long)
        cut = session.head_seq - 99
        feed = session.audience.follow(Wanted(cut - 1))
        await compact(here, long)
        assert [event.seq for event in await read(feed)] == [*range(cut, session.head_seq + 1)]


class TestForks:
    @pytest.fixture
    async def source(self, here: Replica, long: str) -> v1.Session:
        """A session whose beginning is gone."""
        await compact(here, long)
        row = await here.stores.log.row(TENANT, long)
        assert row is not None
        return row.session

    async def test_begin_where_the_log_begins_and_know_what_was_before(
        self, here: Replica, there: Replica, source: v1.Session
    ) -> None:
        at_seq = source.oldest_seq + 9
        made, _ = await lifecycle.fork(here.services, source, wish(session_id="copy"), at_seq)
        assert (made.oldest_seq, made.head_seq) == (source.oldest_seq, at_seq + 1)
        copy = await there.session("copy")
        state = await copy.load()
        assert state.session_id == "copy"
        assert len(state.transcript) > 200
        asked = await there.say(copy, "go on")
        await until(copy, "turn_finished", after_seq=asked.seq)

    async def test_may_begin_right_before_it_and_not_earlier(self, here: Replica, source: v1.Session) -> None:
        made, _ = await lifecycle.fork(here.services, source, wish(session_id="copy"), source.oldest_seq - 1)
        assert (made.oldest_seq, made.head_seq) == (source.oldest_seq, source.oldest_seq)
        with refused("SEQ_COMPACTED", oldestSeq=str(source.oldest_seq)):
            await lifecycle.fork(here.services, source, wish(session_id="other"), source.oldest_seq - 2)


class TestExpiry:
    @pytest.fixture
    async def waiting(self, here: Replica) -> Session:
        """A session in the middle of a turn."""
        session = await here.new_session()
        here.model.then(Answer(calls=(READ,)))
        await here.say(session)
        await until(session, "tool_call_dispatched")
        return session

    async def test_of_two_replicas_one_closes_and_a_client_is_told_both(
        self, here: Replica, there: Replica, waiting: Session
    ) -> None:
        feed = waiting.audience.follow(Wanted(waiting.head_seq))
        items = aiter(feed)
        assert isinstance(await anext(items), v1.CaughtUp)
        keepers = [keeper(one, idle=NOTHING) for one in (here, there)]
        await asyncio.gather(*(one.expire() for one in (*keepers, *keepers)))
        events = await log(waiting)
        assert kinds(events)[-3:] == ["tool_call_completed", "turn_finished", "session_closed"]
        assert kinds(events).count("session_closed") == 1
        await waiting.refresh()
        seen = [as_event(await anext(items)) for _ in range(3)]
        assert kinds([event for event in seen if event is not None])[-1] == "session_closed"
        await asyncio.gather(*(one.remove() for one in (*keepers, *keepers)))
        here.hub._looked_at_all -= 1000
        await here.hub._look_around()
        with refused("SESSION_NOT_FOUND"):
            await anext(items)
        for one in (here, there):
            with refused("SESSION_NOT_FOUND"):
                await one.hub.session(waiting.session_id, TENANT, latest=True)

    async def test_who_still_has_it_at_hand_learns_that_it_is_gone(self, here: Replica, there: Replica) -> None:
        mine = await here.new_session()
        await (await there.session(mine.session_id)).load()
        await keeper(there, idle=NOTHING).expire()
        await mine.refresh()
        await keeper(there).remove()
        with refused("SESSION_NOT_FOUND"):
            await here.say(mine)
        with refused("SESSION_NOT_FOUND"):
            await mine.load()

    async def test_another_session_under_its_id_is_not_taken_for_it(self, here: Replica, there: Replica) -> None:
        mine = await here.new_session(session_id="again")
        await keeper(there, idle=NOTHING).expire()
        await mine.refresh()
        await keeper(there).remove()
        await there.new_session(session_id="again")
        another = await here.hub.session("again", TENANT, latest=True)
        assert not (await another.load()).closed
        await here.say(another)
        assert (await until(another, "user_message")).seq == 4

    async def test_an_expired_session_can_be_read_for_a_while(self, here: Replica, waiting: Session) -> None:
        await keeper(here, idle=NOTHING).expire()
        await keeper(here, buried_after=timedelta(hours=1)).remove()
        assert kinds(await log(waiting))[-1] == "session_closed"

    async def test_one_that_cannot_be_closed_keeps_the_others_from_nothing(
        self, here: Replica, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        broken, sound = await here.new_session(), await here.new_session()
        close = lifecycle.close

        async def failing(session: Session, reason: str, actor: v1.Actor) -> None:
            if session is broken:
                raise ValueError("a log that cannot be folded")
            await close(session, reason, actor)

        monkeypatch.setattr(lifecycle, "close", failing)
        await keeper(here, idle=NOTHING).expire()
        assert kinds(await log(sound))[-1] == "session_closed"

    async def test_an_expired_session_refuses_what_comes_late(self, here: Replica, waiting: Session) -> None:
        await keeper(here, idle=NOTHING).expire()
        with pytest.raises(CallerError) as told:
            await here.say(waiting)
        assert told.value.wire_reason == "SESSION_CLOSED"


async def test_it_all_goes_on_by_itself(there: Replica, long: str) -> None:
    running = keeper(there, snapshots_every=timedelta(milliseconds=10))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(running.run())
        session = await there.session(long)
        async with asyncio.timeout(20):
            while await oldest(there, long) == 1:  # noqa: ASYNC110 - the log tells nobody
                await asyncio.sleep(0.01)
        assert session.unsaved == 0
        task.cancel()


async def test_replicas_take_turns_and_none_fails_of_anothers_work(here: Replica, there: Replica, long: str) -> None:
    hour = timedelta(hours=1)
    mine, theirs = (keeper(at, every=hour) for at in (here, there))
    did: list[str] = []

    async def compact_first() -> None:
        did.append("mine")

    async def compact_second() -> None:
        did.append("theirs")

    await mine._in_turn("compact", compact_first)
    await theirs._in_turn("compact", compact_second)
    assert did == ["mine"]


async def test_what_is_gone_or_stays_whole_is_not_compacted(here: Replica) -> None:
    await compact(here, "s-gone")
    session = await here.new_session()
    here.model.then(Answer(calls=(READ,) * 3))
    await here.say(session)
    await until(session, "tool_call_dispatched", 3)
    await compact(here, session.session_id, keep=1)
    assert await oldest(here, session.session_id) < (await session.load()).head_seq - 1


async def test_a_snapshot_that_cannot_be_read_is_done_without_while_the_log_is_whole(
    here: Replica, there: Replica, long: str
) -> None:
    spoiled = Snapshot(500, FOLD_VERSION, b"spoiled")
    await here.stores.retention.save(long, spoiled)
    state = await (await there.session(long)).load()
    assert state == folded(await log(await here.session(long)))


async def test_without_the_log_a_spoiled_snapshot_is_an_error(here: Replica, there: Replica, long: str) -> None:
    await compact(here, long)
    await here.stores.retention.save(long, Snapshot(1_000_000, FOLD_VERSION, b"spoiled"))
    with pytest.raises(UnreadableError):
        await there.session(long)


async def test_a_session_that_was_dropped_meanwhile_has_no_snapshot_to_keep(here: Replica) -> None:
    session = await here.new_session()
    session._forget()
    await keeper(here)._keep_snapshot(session)
    assert await here.stores.log.base(TENANT, session.session_id, FOLD_VERSION) is None
