"""A session on one replica: commits in order, whatever other replicas commit meanwhile."""

import asyncio
import gc
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from weakref import ref

import pytest

from agent_runtime import v1
from agent_runtime_server.core.errors import CallerError, StoreUnavailable
from agent_runtime_server.engine import lifecycle
from agent_runtime_server.engine.draft import Draft
from agent_runtime_server.engine.feed import Wanted
from agent_runtime_server.engine.recent import Recent
from agent_runtime_server.engine.session import _PAGE, Committed, FencedError, Session
from agent_runtime_server.engine.summary import summary
from agent_runtime_server.engine.turn import TakeStep
from agent_runtime_server.stores.base import StoredEvent
from enginekit.model import Answer
from enginekit.refusals import refused
from enginekit.replica import Replica, as_event, kinds, log, replica, until, wish
from enginekit.stores import OWNER, TENANT, taken
from enginekit.turns import until_true
from enginekit.wire import Wire

READ = ("read_file", {"path": "a.py"})
WRITE = ("write_file", {"path": "a.py", "content": "x"})


@pytest.fixture
async def here(database_url: str) -> AsyncIterator[Replica]:
    async with replica(database_url, runs=False) as made:
        yield made


@pytest.fixture
async def there(database_url: str) -> AsyncIterator[Replica]:
    """Another replica on the same database."""
    async with replica(database_url, runs=False) as made:
        yield made


@pytest.fixture
async def mine(here: Replica) -> Session:
    """A session as this replica knows it."""
    session = here.alone((await here.new_session()).session_id)
    await session.load()
    return session


@pytest.fixture
async def theirs(there: Replica, mine: Session) -> Session:
    """The same session, as the other replica knows it."""
    session = there.alone(mine.session_id)
    await session.load()
    return session


class TestTwoReplicas:
    async def test_who_commits_second_decides_again_on_what_the_first_left(
        self, here: Replica, there: Replica, mine: Session, theirs: Session
    ) -> None:
        first = await here.say(mine, "one")
        second = await there.say(theirs, "two")
        assert second.seq > first.seq
        events = await log(mine)
        assert kinds(events)[-4:] == ["user_message", "turn_started", "routing_decided", "user_message"]
        assert len((await theirs.load()).queue) == 1, "its turn waits, for it saw the first"

    async def test_many_at_once_all_get_in(self, here: Replica, there: Replica, mine: Session, theirs: Session) -> None:
        await asyncio.gather(*(here.say(mine) for _ in range(5)), *(there.say(theirs) for _ in range(5)))
        events = await log(mine)
        assert kinds(events).count("user_message") == 10
        assert [event.seq for event in events] == [*range(1, len(events) + 1)]

    async def test_followers_are_shown_what_the_other_committed(
        self, here: Replica, there: Replica, mine: Session, theirs: Session
    ) -> None:
        feed = theirs.audience.follow(Wanted(theirs.head_seq))
        await here.say(mine, "one")
        await there.say(theirs, "two")
        seen = []
        async for item in feed:
            if (event := as_event(item)) is not None:
                seen.append(event)
            if len(seen) == 4:
                break
        assert kinds(seen) == ["user_message", "turn_started", "routing_decided", "user_message"]

    async def test_the_lease_is_taken_by_who_made_the_session_runnable(
        self, here: Replica, there: Replica, mine: Session, theirs: Session
    ) -> None:
        await here.say(mine)
        await there.say(theirs)
        assert (mine.lease_epoch, theirs.lease_epoch) == (1, None)
        assert (here.started, there.started) == ([mine], [])

    async def test_a_lease_that_was_taken_away_fences_the_runner(
        self, here: Replica, there: Replica, mine: Session, theirs: Session
    ) -> None:
        await here.say(mine)
        await here.stores.presence.close()
        [lease] = await taken(there.stores)
        with pytest.raises(FencedError):
            await mine.commit(lambda draft: draft.finish(v1.TURN_STATE_COMPLETED), epoch=1)
        assert mine.lease_epoch is None, "it noticed as it looked again"
        theirs.lease_epoch = lease.lease_epoch
        await theirs.refresh()
        await theirs.commit(lambda draft: draft.finish(v1.TURN_STATE_COMPLETED), epoch=lease.lease_epoch)
        assert kinds(await log(mine))[-1] == "turn_finished"


class TestToldByOthers:
    @pytest.fixture
    async def wired(self, here: Replica, there: Replica, mine: Session) -> tuple[Session, Session]:
        """One session on two replicas that tell each other."""
        wire = Wire()
        made = [
            Session(mine.session_id, TENANT, replace(one.services, bus=wire.line()), one.started.append)
            for one in (here, there)
        ]
        for session in made:
            await session.load()
        return made[0], made[1]

    async def test_followers_see_at_once_what_another_replica_commits(
        self, here: Replica, wired: tuple[Session, Session]
    ) -> None:
        ours, theirs = wired
        following = theirs.audience.follow(Wanted(theirs.head_seq))
        await here.say(ours)
        async with asyncio.timeout(10):
            async for item in following:
                if (event := as_event(item)) is not None and event.HasField("routing_decided"):
                    break
        assert theirs.head_seq == ours.head_seq
        assert theirs.busy
        theirs.audience.leave(following)
        await here.submit(ours, cancel_turn=v1.CancelTurn())
        assert theirs.head_seq < ours.head_seq, "nobody follows it there any more"

    async def test_what_is_ephemeral_is_shown_on_all_replicas(self, wired: tuple[Session, Session]) -> None:
        ours, theirs = wired
        feed = theirs.audience.follow(Wanted(theirs.head_seq))
        items = aiter(feed)
        assert isinstance(await anext(items), v1.CaughtUp)
        ours.audience.show(v1.ToolProgress(call_id="call-1"))
        assert await anext(items) == v1.ToolProgress(call_id="call-1")

    async def test_catching_up_waits_for_the_sweep_when_postgres_is_away(
        self, there: Replica, wired: tuple[Session, Session]
    ) -> None:
        _, theirs = wired

        async def away(*_arguments: object) -> list[StoredEvent]:
            raise StoreUnavailable("away")

        theirs.audience.follow(Wanted(theirs.head_seq))
        there.stores.log.events = away  # type: ignore[method-assign,assignment]
        theirs.grown(99)
        await until_true(lambda: not theirs._tasks)
        assert theirs.head_seq == 3

    async def test_a_gap_that_was_compacted_is_folded_anew(
        self, here: Replica, there: Replica, wired: tuple[Session, Session]
    ) -> None:
        ours, theirs = wired
        await here.say(ours)
        events = there.stores.log.events

        async def without_the_first(tenant: str, session_id: str, after_seq: int, limit: int) -> Sequence[StoredEvent]:
            return (await events(tenant, session_id, after_seq, limit))[1:]

        there.stores.log.events = without_the_first  # type: ignore[method-assign]
        await theirs.refresh()
        assert await theirs.load() == await ours.load()

    async def test_a_long_absence_is_caught_up_page_by_page(
        self, there: Replica, wired: tuple[Session, Session]
    ) -> None:
        ours, theirs = wired

        def fill(draft: Draft) -> None:
            for _ in range(2 * _PAGE):
                draft.add(v1.SessionEvent(tools_updated=v1.ToolsUpdated()))

        await ours.commit(fill)
        await theirs.refresh()
        assert theirs.head_seq == ours.head_seq


class TestFrames:
    async def test_a_frame_sent_again_is_a_duplicate_on_any_replica(
        self, here: Replica, there: Replica, mine: Session, theirs: Session
    ) -> None:
        first = await here.say(mine, "one", "f-1")
        assert await here.say(mine, "one", "f-1") == Committed(first.seq, duplicate=True)
        assert await there.say(theirs, "one", "f-1") == Committed(first.seq, duplicate=True)
        assert kinds(await log(mine)).count("user_message") == 1

    async def test_both_at_once_commit_one(self, here: Replica, there: Replica, mine: Session, theirs: Session) -> None:
        one, two = await asyncio.gather(here.say(mine, "one", "f-1"), there.say(theirs, "one", "f-1"))
        assert one.seq == two.seq
        assert {one.duplicate, two.duplicate} == {True, False}

    async def test_a_refusal_is_gone_with_all_it_holds_when_it_is_answered(self, here: Replica, mine: Session) -> None:
        gc.disable()
        try:
            try:
                await here.submit(mine, "f-1", cancel_turn=v1.CancelTurn(turn_id="none"))
            except CallerError as error:
                refusal = ref(error)
            await asyncio.sleep(0)  # until the loop has let go of what woke this task
            assert refusal() is None
        finally:
            gc.enable()

    async def test_a_frame_id_with_another_payload_is_refused(self, here: Replica, mine: Session) -> None:
        await here.say(mine, "one", "f-1")
        with refused("IDEMPOTENCY_KEY_REUSED", "f-1"):
            await here.say(mine, "two", "f-1")

    async def test_a_duplicate_counts_before_the_state(self, here: Replica, mine: Session) -> None:
        await here.say(mine)
        cancelled = await here.submit(mine, "f-1", cancel_turn=v1.CancelTurn())
        again = await here.submit(mine, "f-1", cancel_turn=v1.CancelTurn())
        assert again == Committed(cancelled.seq, duplicate=True)
        with refused("TURN_NOT_FOUND"):
            await here.submit(mine, "f-2", cancel_turn=v1.CancelTurn())

    async def test_a_refused_frame_is_not_remembered(self, here: Replica, mine: Session) -> None:
        with refused("TURN_NOT_FOUND"):
            await here.submit(mine, "f-1", cancel_turn=v1.CancelTurn())
        await here.say(mine, "one", "f-1")


class TestDrafts:
    async def test_one_that_refuses_too_late_is_forgotten(self, mine: Session) -> None:
        def decide(draft: Draft) -> None:
            draft.add(v1.SessionEvent(session_closed=v1.SessionClosed()))
            raise CallerError(v1.ERROR_REASON_TURN_NOT_FOUND, "too late")

        with refused("TURN_NOT_FOUND"):
            await mine.commit(decide)
        state = await mine.load()
        assert not state.closed
        assert state.head_seq == len(await log(mine))

    async def test_one_that_breaks_is_forgotten(self, mine: Session) -> None:
        def decide(draft: Draft) -> None:
            draft.add(v1.SessionEvent(session_closed=v1.SessionClosed()))
            raise ValueError("a bug")

        with pytest.raises(ValueError, match="a bug"):
            await mine.commit(decide)
        assert not (await mine.load()).closed

    async def test_one_without_events_commits_nothing(self, mine: Session) -> None:
        before = mine.head_seq
        assert await mine.commit(lambda _draft: None) == Committed(0)
        assert mine.head_seq == before

    async def test_one_that_postgres_did_not_take_is_forgotten(self, here: Replica, mine: Session) -> None:
        before = len(await log(mine))
        here.stores.writing.cancel()
        await asyncio.wait({here.stores.writing})

        async def lose_it() -> None:
            waiting = here.stores.writer._queue
            await until_true(lambda: waiting.appends > 0)
            waiting.next_batch()[0].failed(StoreUnavailable("away"))

        error, _ = await asyncio.gather(here.say(mine), lose_it(), return_exceptions=True)
        assert isinstance(error, StoreUnavailable)
        assert (await mine.load()).head_seq == before

    async def test_a_runner_without_the_lease_commits_nothing(self, mine: Session) -> None:
        with pytest.raises(FencedError):
            await mine.commit(lambda _draft: None, epoch=1)


class TestLoading:
    async def test_a_session_is_for_its_own_tenant(self, here: Replica, mine: Session) -> None:
        for session_id, tenant in ((mine.session_id, "tenant-2"), ("s-gone", TENANT)):
            with refused("SESSION_NOT_FOUND", session_id):
                await Session(session_id, tenant, here.services, here.started.append).load()

    async def test_a_lease_of_this_replica_is_kept_over_a_reload(self, here: Replica, mine: Session) -> None:
        await here.say(mine)
        mine._forget()
        await mine.load()
        assert mine.lease_epoch == 1

    async def test_a_long_log_is_folded_and_its_end_is_at_hand(self, here: Replica, mine: Session) -> None:
        def fill(draft: Draft) -> None:
            for number in range(600):
                draft.add(v1.SessionEvent(tools_updated=v1.ToolsUpdated(tools=[v1.ToolSpec(name=f"t{number}")])))

        await mine.commit(fill)
        anew = here.alone(mine.session_id)
        head = (await anew.load()).head_seq
        assert head == mine.head_seq
        assert anew.audience.recent(0) is None, "that is for the store to read"
        assert anew.audience.recent(head) == []
        recent = anew.audience.recent(head - 2)
        assert recent is not None
        assert [event.seq for event in recent] == [head - 1, head]

    async def test_nothing_is_at_hand_before_it_was_loaded(self, here: Replica, mine: Session) -> None:
        unknown = here.alone(mine.session_id)
        assert unknown.head_seq == 0
        assert [*unknown.audience.texts()] == []
        assert unknown.audience.at_rest()


class TestFollowing:
    async def test_what_is_ephemeral_goes_to_all_but_its_sender(self, mine: Session) -> None:
        feeds = [mine.audience.follow(Wanted(mine.head_seq)) for _ in range(2)]
        iterators = [aiter(feed) for feed in feeds]
        assert [type(await anext(iterator)) for iterator in iterators] == [v1.CaughtUp, v1.CaughtUp]
        mine.audience.show(v1.ToolProgress(call_id="call-1"), but=feeds[0])
        feeds[0].answer(v1.Heartbeat())
        assert [type(await anext(iterator)) for iterator in iterators] == [v1.Heartbeat, v1.ToolProgress]

    async def test_a_reader_behind_what_is_at_hand_reads_the_log(self, here: Replica, mine: Session) -> None:
        anew = here.alone(mine.session_id)
        await anew.load()
        anew.audience._recent = Recent()
        event = await until(anew, "tools_updated")
        assert event.seq == 3

    async def test_a_turn_that_waits_for_the_client_is_at_rest(self, here: Replica, mine: Session) -> None:
        await here.say(mine)
        assert not mine.audience.at_rest()
        await here.submit(mine, cancel_turn=v1.CancelTurn())
        assert mine.audience.at_rest()


class TestSummary:
    async def test_tells_of_the_turn_and_of_what_it_waits_for(self, database_url: str) -> None:
        async with replica(database_url) as running:
            session = await running.new_session()
            assert summary(await session.load()).state == v1.SESSION_STATE_IDLE
            running.model.then(Answer(calls=(READ, WRITE, ("ask_followup_question", {"question": "?"}))))
            await running.say(session)
            await until(session, "question_asked")
            told = summary(await session.load())
            assert told.state == v1.SESSION_STATE_ACTIVE
            assert told.executor_client_id == "c1"
            assert told.current_turn.state == v1.TURN_STATE_WAITING_FOR_TOOL
            assert len(told.current_turn.pending_call_ids) == 1
            assert len(told.current_turn.pending_approval_ids) == 1
            assert told.current_turn.open_question.text == "?"
            await lifecycle.close(session, "enough", OWNER)
            told = summary(await session.load())
            assert (told.state, told.current_turn.state) == (v1.SESSION_STATE_CLOSED, v1.TURN_STATE_CANCELLED)


class TestLifecycle:
    async def test_a_session_is_made_once_for_a_request(self, here: Replica) -> None:
        made, created = await lifecycle.create(here.services, wish(request_id="r", agent_id="debug", title="T"))
        again, created_again = await lifecycle.create(here.services, wish(request_id="r", agent_id="debug"))
        assert (created, created_again) == (True, False)
        assert (made.session_id, made.agent_id, made.title) == (again.session_id, "debug", "T")

    async def test_without_an_agent_the_orchestrator_takes_it(self, here: Replica) -> None:
        made, _ = await lifecycle.create(here.services, wish())
        assert made.agent_id == "orchestrator"

    async def test_an_agent_that_is_not_there_is_refused(self, here: Replica) -> None:
        with refused("AGENT_NOT_FOUND"):
            await lifecycle.create(here.services, wish(agent_id="nobody"))

    @pytest.mark.parametrize(
        "other", [{"tenant": "tenant-2"}, {"owner": v1.Actor(subject="stranger")}, {"agent_id": "debug"}]
    )
    async def test_an_id_that_is_taken_is_refused(self, here: Replica, other: dict[str, object]) -> None:
        await lifecycle.create(here.services, wish(session_id="s1", agent_id="coder"))
        with refused("IDEMPOTENCY_KEY_REUSED"):
            await lifecycle.create(here.services, wish(session_id="s1", **other))

    async def test_closing_again_changes_nothing(self, mine: Session) -> None:
        await lifecycle.close(mine, "enough", OWNER)
        head = mine.head_seq
        await lifecycle.close(mine, "enough", OWNER)
        assert mine.head_seq == head
        assert kinds(await log(mine))[-1] == "session_closed"


async def test_what_a_runner_has_to_do_is_told_after_each_commit(here: Replica, mine: Session) -> None:
    told: list[object] = []
    mine.on_change(told.append)
    await here.say(mine)
    await here.submit(mine, cancel_turn=v1.CancelTurn())
    mine.on_change(None)
    await here.say(mine)
    assert [type(effect) for effect in told] == [TakeStep, type(None)]
    assert isinstance(await mine.effect(), TakeStep)


async def test_what_a_refused_draft_added_is_forgotten_although_postgres_is_away(
    here: Replica, mine: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    head_seq = (await mine.load()).head_seq

    async def away(_session_ids: Sequence[str]) -> Mapping[str, int]:
        raise StoreUnavailable("away")

    def decide(draft: Draft) -> None:
        draft.add(v1.SessionEvent(session_closed=v1.SessionClosed()))
        raise CallerError(v1.ERROR_REASON_VALIDATION_FAILED, "too late to refuse")

    with monkeypatch.context() as patched:
        patched.setattr(here.stores.log, "heads", away)
        with pytest.raises(StoreUnavailable):
            await mine.commit(decide)
    state = await mine.load()
    assert (state.head_seq, state.closed) == (head_seq, False)


async def test_a_decision_on_an_approval_that_is_not_there_is_refused(here: Replica, mine: Session) -> None:
    with refused("APPROVAL_NOT_FOUND", "ap-1"):
        await here.submit(mine, approval_decision=v1.ApprovalDecision(approval_id="ap-1"))
