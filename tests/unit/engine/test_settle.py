"""What follows by itself, and what deadlines bring."""

import pytest

from agent_runtime import v1
from agent_runtime_server.agents.definition import Agent
from agent_runtime_server.agents.registry import Registry
from agent_runtime_server.engine import settle
from agent_runtime_server.engine.draft import Draft
from agent_runtime_server.engine.limits import Limits
from agent_runtime_server.engine.turn import next_effect
from enginekit.refusals import refused

from .world import CLIENT_TOOLS, SECOND, USER, World

READ = ("read_file", {"path": "a.py"})
WRITE = ("write_file", {"path": "b.py", "content": "x"})
QUESTION = ("ask_followup_question", {"question": "which?"})


def running(*calls: tuple[str, object], limits: Limits | None = None, tools: list[v1.ToolSpec] | None = None) -> World:
    world = World(limits=limits, tools=CLIENT_TOOLS if tools is None else tools)
    world.say()
    if calls:
        world.answer(*calls)
    return world


def deadline(world: World) -> float | None:
    """In how many seconds something is due."""
    due = settle.next_deadline(Draft(world.state, world.nanos, world.new_id, world.agents, world.limits))
    return None if due is None else (due - world.nanos) / SECOND


def result(events: list[v1.SessionEvent]) -> v1.ToolResult:
    [found] = [event.tool_call_completed.result for event in events if event.HasField("tool_call_completed")]
    return found


def finished(events: list[v1.SessionEvent]) -> v1.TurnFinished:
    return events[-1].turn_finished


class TestApprovalExpiry:
    def test_a_call_that_nobody_decides_is_not_run(self) -> None:
        world = running(WRITE)
        assert deadline(world) == 300
        assert world.wait(299) == []
        resolved, completed = world.wait(1)
        approval = resolved.approval_resolved.approval
        assert approval.state == v1.APPROVAL_STATE_EXPIRED
        assert approval.decided_by.kind == v1.ACTOR_KIND_SYSTEM
        assert completed.tool_call_completed.result.status == v1.ToolResult.STATUS_TIMED_OUT
        assert next_effect(world.state) is not None, "the model is told"

    def test_a_low_risk_may_be_let_through(self) -> None:
        extra = v1.ToolSpec(name="lookup", risk=v1.RISK_LEVEL_LOW, effect=v1.TOOL_EFFECT_READ)
        world = running(("lookup", {}), limits=Limits(approval_action="approve"), tools=[extra])
        resolved, dispatched = world.wait(300)
        assert resolved.approval_resolved.approval.state == v1.APPROVAL_STATE_APPROVED
        assert resolved.approval_resolved.approval.decided_by.kind == v1.ACTOR_KIND_SYSTEM
        assert dispatched.HasField("tool_call_dispatched")

    def test_a_higher_risk_is_never_let_through(self) -> None:
        world = running(WRITE, limits=Limits(approval_action="approve"))
        assert world.wait(300)[0].approval_resolved.approval.state == v1.APPROVAL_STATE_EXPIRED

    def test_one_that_may_wait_never_expires(self) -> None:
        world = running(WRITE, limits=Limits(approval_action="wait"))
        assert deadline(world) is None
        assert world.wait(100_000) == []
        assert world.dispatched(world.decide())

    def test_each_is_settled_once(self) -> None:
        world = running(WRITE, ("execute_command", {"command": "make"}))
        assert len(world.wait(300)) == 4
        assert world.wait(1) == []


class TestCallTimeouts:
    @pytest.mark.parametrize(
        ("call", "seconds"),
        [
            (READ, 600),
            (("lookup", {}), 90 + 60),
            (("execute_command", {"command": "make", "timeout": 5}), 5 + 60),
            (("execute_command", {"command": "make"}), 300 + 60),
        ],
    )
    def test_a_call_has_its_timeout_and_some_slack(self, call: tuple[str, object], seconds: int) -> None:
        extra = v1.ToolSpec(name="lookup")
        extra.timeout.FromSeconds(90)
        world = running(call, tools=[*CLIENT_TOOLS, extra])
        if world.open_approvals():
            world.decide()
        assert deadline(world) == seconds
        assert world.wait(seconds - 1) == []
        assert result(world.wait(1)).status == v1.ToolResult.STATUS_TIMED_OUT
        assert next_effect(world.state) is not None

    def test_a_started_call_times_out_too(self) -> None:
        world = running(READ)
        assert world.state.turn is not None
        [call_id] = world.state.turn.calls
        world.start(call_id)
        assert result(world.wait(600)).status == v1.ToolResult.STATUS_TIMED_OUT
        with refused("TOOL_RESULT_CONFLICT"):
            world.result(call_id)

    def test_the_first_of_several_deadlines_counts(self) -> None:
        assert deadline(running(READ, WRITE)) == 300


class TestTurnTimeout:
    def test_a_turn_that_takes_too_long_fails(self) -> None:
        world = running()
        assert deadline(world) == 1800
        assert world.wait(1799) == []
        done = finished(world.wait(1))
        assert done.state == v1.TURN_STATE_FAILED
        assert done.error.reason == "TURN_TIMEOUT"

    def test_its_open_calls_are_cancelled(self) -> None:
        world = running(READ, WRITE, limits=Limits(call_seconds=9999, approval_seconds=9999))
        events = world.wait(1800)
        assert world.kinds(events) == [
            "tool_call_completed", "approval_resolved", "tool_call_completed", "turn_finished",
        ]  # fmt: skip
        assert events[0].tool_call_completed.result.error_message == "the turn failed: TURN_TIMEOUT"

    @pytest.mark.parametrize("call", [WRITE, QUESTION])
    def test_its_clock_stands_while_a_human_is_waited_for(self, call: tuple[str, object]) -> None:
        world = running(limits=Limits(approval_action="wait"))
        world.wait(1000)
        world.answer(call)
        assert world.wait(5000) == []
        if world.open_approvals():
            world.decide(v1.APPROVAL_VERDICT_REJECT)
        else:
            world.say("this one")
        assert deadline(world) == 800
        assert world.wait(799) == []
        assert finished(world.wait(1)).error.reason == "TURN_TIMEOUT"

    def test_nothing_is_due_between_turns(self) -> None:
        world = World()
        assert deadline(world) is None
        assert world.wait(5000) == []


class TestCancelGrace:
    def test_a_started_call_has_time_to_stop(self) -> None:
        world = running(READ, ("read_file", {"path": "b"}))
        assert world.state.turn is not None
        started, other = world.state.turn.calls
        world.start(started)
        assert result(world.cancel()).call_id == other, "what has not begun is cancelled at once"
        assert deadline(world) == 10
        assert world.wait(9) == []
        events = world.wait(1)
        assert result(events).status == v1.ToolResult.STATUS_CANCELLED
        assert finished(events).state == v1.TURN_STATE_CANCELLED

    def test_its_real_result_is_kept(self) -> None:
        world = running(READ)
        assert world.state.turn is not None
        [call_id] = world.state.turn.calls
        world.start(call_id)
        world.cancel()
        events = world.result(call_id)
        assert result(events).status == v1.ToolResult.STATUS_SUCCEEDED
        assert finished(events).state == v1.TURN_STATE_CANCELLED

    def test_no_approval_stays_open(self) -> None:
        world = running(WRITE)
        resolved, *_ = world.cancel()[1:]
        assert resolved.approval_resolved.approval.state == v1.APPROVAL_STATE_CANCELLED


class TestQueue:
    def test_turns_begin_in_the_order_of_their_messages(self) -> None:
        world = World()
        turns = [world.say(text)[0].turn_id for text in ("one", "two", "three")]
        begun = [event.turn_id for event in world.log if event.HasField("turn_started")]
        for _ in range(2):
            begun += [event.turn_id for event in world.answer(text="ok") if event.HasField("turn_started")]
        assert begun == turns

    def test_the_next_begins_when_one_is_cancelled(self) -> None:
        world = World()
        world.say("one")
        second = world.say("two")[0].turn_id
        events = world.cancel()
        assert [event.turn_id for event in events if event.HasField("turn_started")] == [second]

    def test_a_turn_tells_the_model_it_is_taken_with(self) -> None:
        world = World(limits=Limits(model="big"))
        assert world.say()[1].turn_started.model == "big"
        own = Agent("coder", "", "", "", tools=(), model="small")
        world.agents = Registry([own])
        world.say()
        events = world.answer(text="ok")
        assert [event.turn_started.model for event in events if event.HasField("turn_started")] == ["small"]

    def test_time_in_the_queue_counts_as_elapsed(self) -> None:
        world = World()
        world.say("one")
        queued = world.say("two")[0].turn_id
        world.nanos += 2 * SECOND
        assert finished(world.cancel(queued)).elapsed.seconds == 2


class TestClose:
    def test_ends_the_turn_the_queue_and_the_log(self) -> None:
        world = running(READ, WRITE)
        turns = {world.log[-1].turn_id, world.say("later")[0].turn_id}
        events = world.commit(lambda draft: settle.close(draft, "enough", USER))
        ended = {event.turn_id: event.turn_finished.state for event in events if event.HasField("turn_finished")}
        assert ended == dict.fromkeys(turns, v1.TURN_STATE_CANCELLED)
        assert events[-1].session_closed.reason == "enough"
        assert world.state.closed

    def test_begins_no_turn_any_more(self) -> None:
        world = World()
        world.say("one")
        world.say("two")
        world.commit(lambda draft: settle.close(draft, "", USER))
        assert world.state.turn is None
        assert next_effect(world.state) is None


def test_time_never_runs_backwards_in_a_log() -> None:
    world = World()
    world.nanos += 10 * SECOND
    world.say()
    world.nanos -= 5 * SECOND
    world.answer(text="done")
    times = [event.create_time.ToNanoseconds() for event in world.log]
    assert times == sorted(times)
    assert finished(world.log).elapsed.ToNanoseconds() == 0
