"""What keeps sessions going when replicas die, drain or stall, and when nobody decides in time."""

import asyncio
import gc
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from weakref import ref

import pytest
from structlog.testing import capture_logs

from agent_runtime import v1
from agent_runtime_server.core.errors import CallerError, StoreUnavailable
from agent_runtime_server.engine import hub as hub_module
from agent_runtime_server.engine import lifecycle
from agent_runtime_server.engine.feed import Feed, Item, Wanted
from agent_runtime_server.engine.hub import Timing
from agent_runtime_server.engine.limits import Limits
from agent_runtime_server.engine.session import Session
from agent_runtime_server.stores.upkeep import Due, Taken
from enginekit.model import Answer
from enginekit.refusals import refused
from enginekit.replica import OFTEN, Replica, kinds, log, replica, until
from enginekit.turns import until_true

READ = ("read_file", {"path": "a.py"})
WRITE = ("write_file", {"path": "a.py", "content": "x"})


@pytest.fixture
def no_garbage_collection() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


async def next_of(feed: Feed, wanted: Callable[[Item], bool]) -> Item:
    async with asyncio.timeout(10):
        async for item in feed:
            if wanted(item):
                return item
    raise AssertionError("the stream ended")


def recoveries(events: list[v1.SessionEvent]) -> list[v1.TurnRecovered]:
    return [event.turn_recovered for event in events if event.HasField("turn_recovered")]


class TestSessions:
    async def test_one_object_stands_for_a_session(self, database_url: str) -> None:
        async with replica(database_url) as here:
            one = await here.new_session()
            assert await here.session(one.session_id) is one

    async def test_a_session_is_for_its_own_tenant(self, database_url: str) -> None:
        async with replica(database_url) as here:
            one = await here.new_session()
            with refused("SESSION_NOT_FOUND"):
                await here.hub.session(one.session_id, "tenant-2")

    async def test_those_nobody_uses_are_bounded(self, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(hub_module, "_MOST_IDLE_SESSIONS", 2)
        async with replica(database_url) as here:
            followed = await here.new_session()
            followed.audience.follow(Wanted(0))
            for _ in range(5):
                await here.new_session()
            assert len(here.hub._sessions) <= 4
            assert await here.session(followed.session_id) is followed

    async def test_what_they_hold_is_bounded(self, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(hub_module, "_MOST_IDLE_SESSIONS", 8)  # so that each one that comes is reason to look
        async with replica(database_url) as here:
            sessions = [await here.new_session() for _ in range(3)]
            most = sum(session.kept_bytes for session in sessions[1:])
            monkeypatch.setattr(hub_module, "_MOST_IDLE_BYTES", most)
            last = await here.new_session()
            assert sessions[0].session_id not in here.hub._sessions
            assert [*here.hub._sessions][-1] == last.session_id
            assert here.hub.active_sessions == 0

    async def test_what_they_hold_is_shown_while_an_answer_is_written(self, database_url: str) -> None:
        async with replica(database_url) as here:
            session = await here.new_session()
            before = here.hub.kept_bytes
            here.model.then(Answer("x" * 10_000, holds=True))
            await here.say(session)
            await here.model.held.wait()
            assert here.hub.kept_bytes > before + 10_000
            here.model.go.set()
            await until(session, "turn_finished")
            assert session.audience.kept_bytes < 2 * 10_000, "the answer's event is at hand, its deltas are gone"

    async def test_closed_ones_that_nobody_reads_are_let_go(self, database_url: str) -> None:
        async with replica(database_url, timing=Timing(sweep_seconds=0.01, heartbeat_seconds=0.01)) as here:
            closed, read, open_one = [await here.new_session() for _ in range(3)]
            read.audience.follow(Wanted(0))
            for session in (closed, read):
                await lifecycle.close(session, "done", v1.Actor())
            await until_true(lambda: closed.session_id not in here.hub._sessions)
            assert {read.session_id, open_one.session_id} <= here.hub._sessions.keys()

    @pytest.mark.usefixtures("no_garbage_collection")
    async def test_one_that_is_let_go_is_gone_at_once(self, database_url: str) -> None:
        async with replica(database_url) as here:
            session = await here.new_session()
            async with asyncio.timeout(20):
                feed = session.audience.follow(Wanted(0))
                await here.say(session)
                await until(session, "turn_finished")
                session.audience.leave(feed)
            gone = ref(session)
            del here.hub._sessions[session.session_id], session, feed
            await until_true(lambda: gone() is None)

    async def test_those_that_run_are_counted_by_tenant(self, database_url: str) -> None:
        async with replica(database_url) as here:
            session = await here.new_session()
            here.model.then(Answer("Hel", holds=True))
            await here.say(session)
            await here.model.held.wait()
            assert here.hub.active_tenants == {session.tenant: 1}
            here.model.go.set()
            await until_true(lambda: not here.hub.active_sessions)
            assert here.hub.active_tenants == {}


async def crashed(url: str, *, answer: Answer, session_id: str) -> None:
    """A replica that takes a message and dies while the model answers."""
    async with replica(url) as dying:
        session = await dying.new_session(session_id=session_id)
        dying.model.then(answer)
        await dying.say(session)
        await dying.model.held.wait()
        # A process that dies releases nothing: only its connections end.
        session.lease_epoch = None
        await dying.stores.presence.close()


class TestTakeOver:
    async def test_the_turn_of_a_dead_replica_is_finished_by_another(self, database_url: str) -> None:
        await crashed(database_url, answer=Answer("Hel", holds=True), session_id="s1")
        async with replica(database_url, timing=OFTEN) as here:
            session = await here.session("s1")
            finished = await until(session, "turn_finished")
            assert finished.turn_finished.state == v1.TURN_STATE_COMPLETED
            [recovered] = recoveries(await log(session))
            assert recovered == v1.TurnRecovered(attempt=2, cause=v1.TurnRecovered.CAUSE_OWNER_LOST)

    async def test_a_replica_that_drains_leaves_its_turns_to_others_at_once(self, database_url: str) -> None:
        async with replica(database_url, runs=True) as leaving:
            session = await leaving.new_session(session_id="s1")
            leaving.model.then(Answer("Hel", holds=True))
            await leaving.say(session)
            await leaving.model.held.wait()
        async with replica(database_url, timing=OFTEN) as here:
            session = await here.session("s1")
            await until(session, "turn_finished")
            [recovered] = recoveries(await log(session))
            assert recovered.cause == v1.TurnRecovered.CAUSE_OWNER_DRAINED

    async def test_who_knew_the_session_before_takes_it_over_as_it_is_now(self, database_url: str) -> None:
        async with replica(database_url, timing=OFTEN) as here:
            known = await here.new_session(session_id="s1")
            async with replica(database_url) as dying:
                theirs = await dying.session("s1")
                dying.model.then(Answer("Hel", holds=True))
                await dying.say(theirs)
                await dying.model.held.wait()
                theirs.lease_epoch = None
                await dying.stores.presence.close()
                await until(known, "turn_finished")
            assert len(recoveries(await log(known))) == 1

    async def test_a_runner_whose_lease_was_taken_stops(self, database_url: str) -> None:
        hasty = Timing(sweep_seconds=1000, lease_seconds=0.03)
        async with replica(database_url, timing=hasty, lease=timedelta(0)) as stalled:
            session = await stalled.new_session(session_id="s1")
            stalled.model.then(Answer("Hel", holds=True))
            await stalled.say(session)
            await stalled.model.held.wait()
            async with replica(database_url, timing=OFTEN) as here:
                theirs = await here.session("s1")
                finished = await until(theirs, "turn_finished")
                assert len(here.model.requests) == 1
                await until_true(lambda: not stalled.hub.active_sessions)
            assert (stalled.model.aborted, session.lease_epoch) == (1, None)
            assert finished.turn_finished.state == v1.TURN_STATE_COMPLETED

    async def test_a_replica_that_seemed_dead_finds_out_at_once_what_was_taken_from_it(self, database_url: str) -> None:
        async with replica(database_url) as cut_off:
            session = await cut_off.new_session(session_id="s1")
            cut_off.model.then(Answer("Hel", holds=True))
            await cut_off.say(session)
            await cut_off.model.held.wait()
            await cut_off.stores.presence.close()
            async with replica(database_url, timing=OFTEN) as here:
                await until(await here.session("s1"), "turn_finished")
            cut_off.hub.check_leases()
            await until_true(lambda: not cut_off.hub.active_sessions)
            assert (cut_off.model.aborted, session.lease_epoch) == (1, None)

    async def test_a_lease_that_cannot_be_given_up_yet_keeps_no_other_from_being_renewed(
        self, database_url: str
    ) -> None:
        quick = Timing(sweep_seconds=1000, lease_seconds=0.03)
        async with replica(database_url, timing=quick) as here:
            session = await here.new_session()
            rounds = 0

            async def lost(epochs: dict[str, int]) -> object:
                nonlocal rounds
                rounds += 1
                return [*epochs]

            here.stores.leases.renew = lost  # type: ignore[method-assign,assignment]
            here.model.then(Answer("Hel", holds=True))
            await here.say(session)
            await here.model.held.wait()
            async with session._lock:
                seen = rounds
                await until_true(lambda: rounds > seen + 3)
            here.model.go.set()
            await until(session, "turn_finished")

    async def test_a_lease_is_renewed_while_a_step_takes_long(self, database_url: str) -> None:
        quick = Timing(sweep_seconds=0.01, lease_seconds=0.3)
        async with replica(database_url, timing=quick, lease=timedelta(seconds=0.3)) as here:
            session = await here.new_session()
            here.model.then(Answer("Hel", holds=True))
            await here.say(session)
            await here.model.held.wait()
            renewed = asyncio.Event()
            renew = here.stores.leases.renew

            async def watched(epochs: dict[str, int]) -> object:
                lost = await renew(epochs)
                renewed.set()
                return lost

            here.stores.leases.renew = watched  # type: ignore[method-assign,assignment]
            for _ in range(5):
                renewed.clear()
                await renewed.wait()
            here.model.go.set()
            await until(session, "turn_finished")
            assert not recoveries(await log(session))

    async def test_a_lease_that_a_commit_let_go_of_meanwhile_is_not_taken_for_lost(self, database_url: str) -> None:
        quick = Timing(sweep_seconds=0.01, lease_seconds=0.03)
        async with replica(database_url, timing=quick) as here:
            session = await here.new_session()
            told = asyncio.Event()

            async def mistaken(epochs: dict[str, int]) -> object:
                told.set()
                return [*epochs]

            here.stores.leases.renew = mistaken  # type: ignore[method-assign,assignment]
            here.model.then(Answer("Hel", holds=True))
            await here.say(session)
            await here.model.held.wait()
            await told.wait()
            here.model.go.set()
            await until(session, "turn_finished")
            assert (here.model.aborted, len(here.model.requests)) == (0, 1)
            assert not recoveries(await log(session))

    async def test_a_session_that_is_gone_is_passed_over(self, database_url: str) -> None:
        async with replica(database_url) as here:
            assert await here.hub._any_tenant("s-gone") is None
            await here.hub._take_over(Taken("s-gone", 1, drained=True))
            await here.hub._settle(Due("s-gone", datetime.now(UTC)))
            assert here.hub.active_sessions == here.hub.loaded_sessions == 0

    async def test_a_lease_of_a_session_that_is_not_at_hand_any_more_is_let_go(self, database_url: str) -> None:
        async with replica(database_url) as here:
            session = await here.new_session()
            here.model.then(Answer("Hel", holds=True))
            await here.say(session)
            await here.model.held.wait()

            async def lost(_epochs: dict[str, int]) -> object:
                return ["s-gone"]

            here.stores.leases.renew = lost  # type: ignore[method-assign,assignment]
            await here.hub._renew()
            here.model.go.set()
            await until(session, "turn_finished")


class TestDeadlines:
    async def test_an_approval_that_nobody_decides_expires(self, database_url: str) -> None:
        async with replica(database_url, timing=OFTEN, limits=Limits(approval_seconds=0)) as here:
            session = await here.new_session()
            here.model.then(Answer(calls=(WRITE,)))
            await here.say(session)
            resolved = await until(session, "approval_resolved")
            assert resolved.approval_resolved.approval.state == v1.APPROVAL_STATE_EXPIRED
            await until(session, "turn_finished")

    async def test_a_call_without_a_result_times_out(self, database_url: str) -> None:
        async with replica(database_url, timing=OFTEN, limits=Limits(call_seconds=0)) as here:
            session = await here.new_session()
            here.model.then(Answer(calls=(READ,)))
            await here.say(session)
            completed = await until(session, "tool_call_completed")
            assert completed.tool_call_completed.result.status == v1.ToolResult.STATUS_TIMED_OUT

    async def test_a_turn_that_takes_too_long_fails_and_its_step_is_aborted(self, database_url: str) -> None:
        async with replica(database_url, timing=OFTEN, limits=Limits(turn_seconds=0.1)) as here:
            session = await here.new_session()
            here.model.then(Answer("Hel", holds=True))
            await here.say(session)
            finished = await until(session, "turn_finished")
            assert finished.turn_finished.error.reason == "TURN_TIMEOUT"
            await until_true(lambda: not here.hub.active_sessions)
            assert here.model.aborted == 1

    async def test_a_deadline_of_a_dead_replicas_session_is_settled_by_who_knew_it_before(
        self, database_url: str
    ) -> None:
        limits = Limits(approval_seconds=0)
        async with replica(database_url, timing=OFTEN, limits=limits) as here:
            known = await here.new_session(session_id="s1")
            async with replica(database_url, limits=limits) as dying:
                theirs = await dying.session("s1")
                dying.model.then(Answer(calls=(WRITE,)))
                await dying.say(theirs)
                resolved = await until(known, "approval_resolved")
            assert resolved.approval_resolved.approval.state == v1.APPROVAL_STATE_EXPIRED

    async def test_more_than_a_batch_is_taken_without_a_pause(
        self, database_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(hub_module, "_BATCH", 2)
        async with replica(database_url, runs=False) as gone:
            sessions = [await gone.new_session() for _ in range(5)]
            for session in sessions:
                await gone.say(session)
            left = {session.session_id: session.lease_epoch or 0 for session in sessions}
            await gone.stores.leases.release(left, unfinished=False)
            async with replica(database_url) as here:
                here.model.then(*[Answer("done")] * 5)
                for session_id in left:
                    await until(await here.session(session_id), "turn_finished")


class TestStreams:
    async def follow(self, here: Replica) -> Feed:
        session = await here.new_session()
        return session.audience.follow(Wanted(session.head_seq))

    async def test_a_silent_stream_gets_heartbeats(self, database_url: str) -> None:
        async with replica(database_url, timing=Timing(heartbeat_seconds=0.03)) as here:
            feed = await self.follow(here)
            await next_of(feed, lambda item: isinstance(item, v1.Heartbeat))

    async def test_a_client_that_is_silent_is_let_go(self, database_url: str) -> None:
        async with replica(database_url, timing=Timing(heartbeat_seconds=0.03, client_idle_seconds=0)) as here:
            watching, silent = await self.follow(here), await self.follow(here)
            silent.reads = True
            with refused("CLIENT_IDLE_TIMEOUT"):
                await next_of(silent, lambda _item: False)
            await next_of(watching, lambda item: isinstance(item, v1.Heartbeat))

    async def test_an_old_stream_is_told_to_go_and_then_ended(self, database_url: str) -> None:
        async with replica(database_url, timing=Timing(heartbeat_seconds=0.03, stream_seconds=2)) as here:
            feed = await self.follow(here)
            told = await next_of(feed, lambda item: isinstance(item, v1.GoAway))
            assert isinstance(told, v1.GoAway)
            assert (told.reason, told.time_left.ToTimedelta() <= timedelta(seconds=2)) == (
                v1.GoAway.REASON_MAX_AGE,
                True,
            )
            with refused("SERVER_DRAINING", "greatest age"):
                await next_of(feed, lambda _item: False)

    async def test_all_are_told_to_go_and_then_ended(self, database_url: str) -> None:
        async with replica(database_url) as here:
            feeds = [await self.follow(here) for _ in range(2)]
            here.hub.say(lambda: v1.GoAway(reason=v1.GoAway.REASON_DRAINING))
            for feed in feeds:
                await next_of(feed, lambda item: isinstance(item, v1.GoAway))
            here.hub.end_feeds(CallerError(v1.ERROR_REASON_SERVER_DRAINING, "bye"))
            for feed in feeds:
                with refused("SERVER_DRAINING"):
                    await next_of(feed, lambda _item: False)


class TestBackgroundWork:
    async def test_goes_on_after_failures(self, database_url: str) -> None:
        async with replica(database_url, timing=OFTEN) as here:
            take, failures = here.stores.leases.take_runnable, [StoreUnavailable("away"), ValueError("a bug")]

            async def failing(limit: int) -> object:
                if failures:
                    raise failures.pop(0)
                return await take(limit)

            with capture_logs() as logs:
                here.stores.leases.take_runnable = failing  # type: ignore[method-assign,assignment]
                await until_true(lambda: not failures)
                swept = here.hub._swept
                await until_true(lambda: here.hub._swept != swept)
            told = [entry["event"] for entry in logs]
            assert told == ["background work waits for the database", "background work failed"]

    async def test_is_healthy_while_it_makes_progress(self, database_url: str) -> None:
        async with replica(database_url) as here:
            await here.hub.probe()
            here.hub._swept = time.monotonic() - 10_000
            with refused("DEPENDENCY_UNAVAILABLE"):
                await here.hub.probe()

    async def test_a_runner_with_a_bug_stops_nobody_else(
        self, database_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with replica(database_url) as here:
            broken, fine = await here.new_session(), await here.new_session()
            effect = Session.effect

            async def failing(session: Session) -> object:
                if session is broken:
                    raise ValueError("a bug")
                return await effect(session)

            monkeypatch.setattr(Session, "effect", failing)
            with capture_logs() as logs:
                await here.say(broken)
                await here.say(fine)
                await until(fine, "turn_finished")
            assert [entry["event"] for entry in logs] == ["a session's runner failed"]

    async def test_nobody_runs_sessions_of_a_hub_that_does_not_run(self, database_url: str) -> None:
        async with replica(database_url, runs=False) as here:
            session = await here.new_session()
            await here.say(session)
            assert here.hub.active_sessions == 0

    async def test_ends_well_when_the_database_is_away(self, database_url: str) -> None:
        async with replica(database_url, runs=False) as here:
            session = await here.new_session()
            await here.say(session)

            async def away(_epochs: object, *, unfinished: bool) -> None:
                raise StoreUnavailable("away")

            here.stores.leases.release = away  # type: ignore[method-assign,assignment]
            with capture_logs() as logs:
                await here.hub._release()
            assert "by themselves" in logs[0]["event"]
            assert kinds(await log(session))[-1] == "routing_decided"
