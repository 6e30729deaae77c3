"""A runner takes a session on until it waits for others, and loses nothing whatever happens meanwhile."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
from structlog.testing import capture_logs

from agent_runtime import v1
from agent_runtime_server.core.errors import CallerError, ModelBrokeOff, ModelRejected
from agent_runtime_server.engine.feed import Wanted
from agent_runtime_server.engine.ledger import DayBudget
from agent_runtime_server.engine.limits import Limits
from agent_runtime_server.engine.reviews import Reviewer, claim
from agent_runtime_server.engine.runner import Runner
from agent_runtime_server.engine.session import Session
from agent_runtime_server.stores.base import Frame
from enginekit.model import Answer
from enginekit.replica import Replica, kinds, log, replica, until
from enginekit.stores import OWNER, TENANT, locked, until_one_waits
from enginekit.turns import until_true

READ = ("read_file", {"path": "a.py"})
WRITE = ("write_file", {"path": "a.py", "content": "x"})


@pytest.fixture
async def here(database_url: str) -> AsyncIterator[Replica]:
    async with replica(database_url) as made:
        yield made


@pytest.fixture
async def session(here: Replica) -> Session:
    return await here.new_session()


async def test_a_turn_goes_from_the_message_to_its_end(here: Replica, session: Session) -> None:
    here.model.then(Answer("I look", calls=(READ, READ)), Answer("That is it"))
    await here.say(session)
    await until(session, "tool_call_dispatched", 2)
    calls = (await session.load()).calls
    for call_id in reversed(calls):
        await here.result(session, call_id)
    finished = await until(session, "turn_finished")
    assert finished.turn_finished.state == v1.TURN_STATE_COMPLETED
    assert finished.turn_finished.usage.model_calls == 2
    told = here.model.requests[1].messages
    assert [message["role"] for message in told[-4:]] == ["user", "assistant", "tool", "tool"]
    assert [message["tool_call_id"] for message in told[-2:]] == [*calls], "in the order of the calls"


async def test_the_orchestrators_turn_is_routed_first(here: Replica) -> None:
    session = await here.new_session("orchestrator")
    here.model.then(Answer('{"agent": "debug", "confidence": "high", "reasoning": "a bug"}'), Answer("found it"))
    await here.say(session, "why does it crash?")
    await until(session, "turn_finished")
    assert (await session.load()).agent_id == "debug"
    assert kinds(await log(session))[-5:] == [
        "turn_started", "agent_handoff", "routing_decided", "assistant_message", "turn_finished",
    ]  # fmt: skip


async def test_a_turn_waits_for_a_decision(here: Replica, session: Session) -> None:
    here.model.then(Answer(calls=(WRITE,)))
    await here.say(session)
    approval = (await until(session, "approval_requested")).approval_requested.approval
    decision = v1.ApprovalDecision(
        approval_id=approval.approval_id,
        arguments_sha256=approval.tool_call.arguments_sha256,
        verdict=v1.APPROVAL_VERDICT_APPROVE,
    )
    await here.submit(session, approval_decision=decision)
    dispatched = await until(session, "tool_call_dispatched")
    assert dispatched.tool_call_dispatched.tool_call == approval.tool_call
    other = await here.new_session()
    with pytest.raises(Exception, match="there is no approval"):
        await here.submit(other, approval_decision=decision)


async def test_a_decision_carries_on_from_the_revision_that_a_claim_made(here: Replica, session: Session) -> None:
    here.model.then(Answer(calls=(WRITE,)))
    await here.say(session)
    approval_id = (await until(session, "approval_requested")).approval_requested.approval.approval_id
    reviewer = Reviewer(TENANT, OWNER)
    await claim(here.services, reviewer, approval_id, Frame(reviewer.scope, "h-1", b""), keep=True)
    decision = v1.ApprovalDecision(approval_id=approval_id, verdict=v1.APPROVAL_VERDICT_REJECT, expected_revision=1)
    await here.submit(session, approval_decision=decision)
    resolved = (await until(session, "approval_resolved")).approval_resolved.approval
    assert resolved.revision == 3
    row = await here.stores.approvals.get(TENANT, approval_id)
    assert row is not None
    assert row.approval.revision == 3


async def test_of_two_who_decide_at_the_same_moment_the_later_is_told_what_was_decided(
    here: Replica, session: Session
) -> None:
    here.model.then(Answer(calls=(WRITE,)))
    await here.say(session)
    approval_id = (await until(session, "approval_requested")).approval_requested.approval.approval_id
    reject = v1.ApprovalDecision(approval_id=approval_id, verdict=v1.APPROVAL_VERDICT_REJECT)

    refusals: list[dict[str, str]] = []

    async def decide() -> None:
        try:
            await here.submit(session, approval_decision=reject)
        except CallerError as refusal:
            refusals.append(refusal.metadata)

    async with asyncio.TaskGroup() as group, session._lock:
        await until_true(lambda: not session._tasks)
        for _ in range(2):
            group.create_task(decide())
        await until_true(lambda: len(session._tasks) == 2)  # and each has seen it pending
    assert refusals == [{"state": "REJECTED", "revision": "2"}]


async def test_a_model_that_refuses_ends_the_turn_with_the_reason(here: Replica, session: Session) -> None:
    here.model.then(ModelRejected("too long"))
    await here.say(session)
    finished = (await until(session, "turn_finished")).turn_finished
    assert (finished.state, finished.error.reason) == (v1.TURN_STATE_FAILED, "MODEL_REJECTED")
    await here.say(session, "again")
    await until(session, "turn_finished", 2)


async def test_a_bug_in_a_step_ends_its_turn_and_is_not_told(here: Replica, session: Session) -> None:
    here.model.then(Answer(error=ValueError("the inside")))
    with capture_logs() as logs:
        await here.say(session)
        finished = (await until(session, "turn_finished")).turn_finished
    assert (finished.error.reason, finished.error.message) == ("INTERNAL", "internal error")
    assert [entry["event"] for entry in logs] == ["a step failed"]


async def test_text_is_shown_to_everybody_while_it_is_written(here: Replica, session: Session) -> None:
    feeds = [session.audience.follow(Wanted(session.head_seq)) for _ in range(2)]
    here.model.then(Answer("Hello", holds=True))
    await here.say(session)
    for feed in feeds:
        async for item in feed:
            if isinstance(item, v1.MessageDelta):
                break
        assert isinstance(item, v1.MessageDelta)
        assert item.text == "Hello"
    [so_far] = session.audience.texts()
    assert isinstance(so_far, v1.MessageDelta)
    assert (so_far.text, so_far.replace) == ("Hello", True)
    here.model.go.set()
    message = await until(session, "assistant_message")
    assert message.assistant_message.message_id == so_far.message_id
    assert [*session.audience.texts()] == []


async def test_cancelling_aborts_the_step_in_hand(here: Replica, session: Session) -> None:
    here.model.then(Answer("Hel", holds=True))
    await here.say(session)
    await here.model.held.wait()
    await here.submit(session, cancel_turn=v1.CancelTurn())
    finished = await until(session, "turn_finished")
    assert finished.turn_finished.state == v1.TURN_STATE_CANCELLED
    await here.say(session, "again")
    await until(session, "turn_finished", 2)
    assert here.model.aborted == 1
    assert "assistant_message" not in kinds((await log(session))[: finished.seq])


async def test_a_message_of_the_queue_is_taken_on_by_the_same_runner(here: Replica, session: Session) -> None:
    here.model.then(Answer("one", holds=True), Answer("two"))
    await here.say(session, "first")
    await here.model.held.wait()
    await here.say(session, "second")
    here.model.go.set()
    await until(session, "turn_finished", 2)
    texts = [
        event.assistant_message.parts[0].text for event in await log(session) if event.HasField("assistant_message")
    ]
    assert texts == ["one", "two"]


async def test_an_answer_waits_for_a_postgres_that_is_away(here: Replica, session: Session, database_url: str) -> None:
    here.model.then(Answer("done", holds=True))
    await here.say(session)
    await here.model.held.wait()
    async with locked(database_url, session.session_id):
        here.model.go.set()
        pid = await until_one_waits(database_url)
        connection = await asyncpg.connect(database_url)
        await connection.execute("SELECT pg_terminate_backend($1, 10000)", pid)
        await connection.close()
    assert (await until(session, "turn_finished")).turn_finished.state == v1.TURN_STATE_COMPLETED
    assert len(here.model.requests) == 1, "the work was done once"


async def test_a_step_that_is_not_wanted_any_more_is_not_taken(here: Replica, session: Session) -> None:
    waiting = here.alone(session.session_id)
    await here.say(waiting)
    effect = await waiting.effect()
    assert effect is not None
    runner = Runner(waiting, here.hub._performer, None)
    await here.submit(waiting, cancel_turn=v1.CancelTurn())
    await runner._work(effect)
    assert not here.model.requests


async def test_a_runner_that_was_fenced_stops(here: Replica, session: Session) -> None:
    waiting = here.alone(session.session_id)
    await here.say(waiting)
    await here.stores.leases.release({session.session_id: 1}, unfinished=True)
    async with asyncio.timeout(10):
        await Runner(waiting, here.hub._performer, None).run()
    assert kinds(await log(waiting))[-1] == "routing_decided", "it has committed nothing"
    assert len(here.model.requests) == 1


async def test_a_turn_of_too_many_steps_ends(database_url: str) -> None:
    async with replica(database_url, limits=Limits(turn_steps=1)) as here:
        session = await here.new_session()
        here.model.then(Answer(calls=(("fly", {}),)))
        await here.say(session)
        finished = (await until(session, "turn_finished")).turn_finished
    assert finished.error.reason == "TURN_BUDGET_EXCEEDED"


async def test_no_connection_is_held_while_the_model_thinks(here: Replica, session: Session) -> None:
    here.model.then(Answer("thinking", holds=True))
    await here.say(session)
    await here.model.held.wait()
    pools = (here.stores.database, here.stores.commits)
    assert all(pool.size > 0 for pool in pools)
    await until_true(lambda: all(pool.idle == pool.size for pool in pools))
    here.model.go.set()
    await until(session, "turn_finished")


async def test_a_runner_with_nothing_in_hand_has_nothing_to_abort(here: Replica, session: Session) -> None:
    Runner(session, here.hub._performer, None).stop()


async def test_a_session_whose_turn_is_over_has_nothing_to_recover(here: Replica, session: Session) -> None:
    session.lease_epoch, before = 1, await log(session)
    await Runner(session, here.hub._performer, None)._recover(v1.TurnRecovered.CAUSE_OWNER_LOST)
    assert await log(session) == before


async def test_a_day_that_is_used_up_ends_the_turn(database_url: str) -> None:
    async with replica(database_url, day=DayBudget(tokens=1)) as here:
        session = await here.new_session()
        here.model.then(Answer(calls=(("fly", {}),)))
        here.model.usage = v1.Usage(output_tokens=2, model_calls=1)
        await here.say(session)
        finished = await until(session, "turn_finished")
        assert finished.turn_finished.error.reason == "TURN_BUDGET_EXCEEDED"
        assert len(here.model.requests) == 1


async def test_tool_calls_of_a_day_are_refused_one_by_one_and_the_turn_ends_before_the_next_step(
    database_url: str,
) -> None:
    async with replica(database_url, day=DayBudget(tool_calls=2)) as here:
        session = await here.new_session()
        here.model.then(Answer(calls=(READ, READ, READ)))
        await here.say(session)
        refused = (await until(session, "tool_call_completed")).tool_call_completed.result
        assert refused.error_message == "the user had all tool calls of today"
        await until(session, "tool_call_dispatched", 2)
        for call_id in [*(await session.load()).calls][:2]:
            await here.result(session, call_id)
        error = (await until(session, "turn_finished")).turn_finished.error
        assert (error.reason, error.metadata["budget"]) == ("TURN_BUDGET_EXCEEDED", "user.day.tool_calls")


async def test_seconds_of_a_day_go_on_while_a_tool_runs_and_not_between_turns(database_url: str) -> None:
    async with replica(database_url, day=DayBudget(seconds=100)) as here:
        session = await here.new_session()
        for turn in range(2):
            here.model.then(Answer(calls=(READ,)))
            await here.say(session)
            await until(session, "tool_call_dispatched", turn + 1)
            here.clock.ahead += 40
            await here.result(session, [*(await session.load()).calls][-1])
            finished = (await until(session, "turn_finished", turn + 1)).turn_finished
            here.clock.ahead += 1000
        assert (finished.error.reason, finished.error.metadata["budget"]) == (
            "TURN_BUDGET_EXCEEDED",
            "user.day.seconds",
        )
        assert len(here.model.requests) == 3


async def test_a_step_whose_answers_break_off_is_taken_again_after_a_pause(here: Replica, session: Session) -> None:
    here.model.then(Answer("Hel", error=ModelBrokeOff("cut")), Answer("Hello"))
    await here.say(session)
    finished = await until(session, "turn_finished")
    assert finished.turn_finished.state == v1.TURN_STATE_COMPLETED
    assert kinds(await log(session))[-3:] == ["turn_recovered", "assistant_message", "turn_finished"]
