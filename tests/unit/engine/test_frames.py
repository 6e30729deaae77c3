"""What each client frame makes, and why it may be refused."""

from hashlib import sha256

import pytest

from agent_runtime import v1
from agent_runtime_server.core.errors import ValidationFailed
from agent_runtime_server.engine import frames, settle
from agent_runtime_server.engine.state import Phase
from agent_runtime_server.engine.turn import next_effect
from enginekit.refusals import refused

from .world import CLIENT_TOOLS, USER, World

READ = ("read_file", {"path": "a.py"})
WRITE = ("write_file", {"path": "b.py", "content": "x"})
QUESTION = ("ask_followup_question", {"question": "which?", "options": ["red", "blue"]})


def running(*calls: tuple[str, object], agent_id: str = "coder") -> World:
    """A session whose model has just asked for these calls."""
    world = World(agent_id=agent_id)
    world.say()
    world.answer(*calls)
    return world


def calls(world: World) -> list[str]:
    assert world.state.turn is not None
    return [*world.state.turn.calls]


def closed() -> World:
    world = World()
    world.commit(lambda draft: settle.close(draft, "enough", USER))
    return world


class TestUserMessage:
    def test_so_many_wait_for_a_turn_and_no_more(self) -> None:
        world = running(READ)
        for _ in range(50):
            world.say("later")
            world.say("now", delivery=v1.MESSAGE_DELIVERY_STEER)
        with refused("QUOTA_EXCEEDED", quota="session.waiting_messages", limit="100"):
            world.say("too much")
        world.result(calls(world)[0])
        world.answer(text="heard")
        world.say("there is room again")

    def test_what_waits_is_bounded_in_size(self) -> None:
        world = running(READ)
        for _ in range(3):
            world.say("x" * (1 << 20))
        with refused("QUOTA_EXCEEDED"):
            world.say("x" * (1 << 20))

    def test_begins_a_turn_and_stands_under_its_frame_id(self) -> None:
        world = World()
        message = v1.UserMessage(parts=[v1.Part(text="hello")])
        events = world.commit(lambda draft: frames.user_message(draft, world.sender("f-1"), message))
        assert [event.frame_id for event in events] == ["f-1", "", ""], "a frame id stands only on the event it made"
        assert events[0].user_message == message
        assert events[0].actor == USER
        assert len({event.turn_id for event in events}) == 1

    def test_is_refused_by_a_closed_session(self) -> None:
        with refused("SESSION_CLOSED"):
            closed().say()

    def test_names_an_agent_that_there_is(self) -> None:
        with refused("AGENT_NOT_FOUND", "coder", agentId="nobody"):
            World().say(agent_id="nobody")

    def test_names_a_question_that_is_open(self) -> None:
        with pytest.raises(ValidationFailed, match=r"user_message\.question_id"):
            World().say(question_id="question-1")
        with pytest.raises(ValidationFailed, match=r"user_message\.question_id"):
            running(QUESTION).say(question_id="question-other")

    def test_answers_the_open_question_by_an_option_and_by_text(self) -> None:
        world = running(QUESTION)
        [call_id] = calls(world)
        message = v1.UserMessage(parts=[v1.Part(text="dark"), v1.Part(json="{}")], option_ids=["2"])
        events = world.commit(lambda draft: frames.user_message(draft, world.sender(), message))
        assert world.kinds(events) == ["user_message", "tool_call_completed"]
        result = events[1].tool_call_completed.result
        assert (result.call_id, result.status) == (call_id, v1.ToolResult.STATUS_SUCCEEDED)
        assert result.content[0].text == "blue\ndark"
        assert next_effect(world.state) is not None

    def test_chooses_among_the_options_there_are(self) -> None:
        message = v1.UserMessage(option_ids=["1", "9"])
        for world, choices in (
            (running(QUESTION), "1, 2"),
            (running(("ask_followup_question", {"question": "?"})), "no options"),
        ):
            with pytest.raises(ValidationFailed, match=r"option_ids\[\d\]") as caught:
                world.commit(lambda draft, world=world: frames.user_message(draft, world.sender(), message))  # type: ignore[misc]
            assert choices in str(caught.value)

    def test_answers_a_question_that_no_call_asked_as_a_message(self) -> None:
        world = World()
        turn_id = world.say()[0].turn_id
        asked = v1.QuestionAsked(question=v1.Question(question_id="q", text="which agent?"))
        world.commit(lambda draft: draft.add(v1.SessionEvent(question_asked=asked), turn_id=turn_id))
        events = world.say("the coder", question_id="q")
        assert world.kinds(events) == ["user_message"]
        assert len(world.state.transcript) == 2


class TestToolCallStarted:
    def test_is_noted_with_the_client_that_runs_it(self) -> None:
        world = running(READ)
        [call_id] = calls(world)
        [event] = world.start(call_id)
        assert event.tool_call_started == v1.ToolCallStarted(call_id=call_id, client_id="c1")

    def test_may_be_said_again_by_the_same_client_only(self) -> None:
        world = running(READ)
        [call_id] = calls(world)
        world.start(call_id)
        world.start(call_id)
        started = v1.ToolCallStarted(call_id=call_id)
        with refused("TOOL_CALL_ALREADY_STARTED", clientId="c1"):
            world.commit(lambda draft: frames.tool_call_started(draft, world.sender(client_id="c2"), started))


class TestToolResult:
    def test_completes_the_call_even_if_it_was_never_said_to_start(self) -> None:
        world = running(READ)
        [call_id] = calls(world)
        [event] = world.result(call_id)
        completed = event.tool_call_completed
        assert completed.client_id == "c1"
        assert completed.result.source == v1.ToolResult.SOURCE_CLIENT
        assert next_effect(world.state) is not None

    def test_any_client_may_bring_the_result_of_a_started_call(self) -> None:
        world = running(READ)
        [call_id] = calls(world)
        world.start(call_id)
        result = v1.ToolResult(call_id=call_id, status=v1.ToolResult.STATUS_SUCCEEDED)
        [event] = world.commit(lambda draft: frames.tool_result(draft, world.sender(client_id="c2"), result))
        assert event.tool_call_completed.client_id == "c2"

    def test_the_first_one_stands(self) -> None:
        world = running(READ, ("read_file", {"path": "b.py"}))
        first = calls(world)[0]
        world.result(first)
        with refused("TOOL_RESULT_CONFLICT"):
            world.result(first)

    def test_of_an_earlier_step_comes_too_late(self) -> None:
        world = running(READ)
        [call_id] = calls(world)
        world.result(call_id)
        world.answer(READ)
        with refused("TOOL_RESULT_CONFLICT"):
            world.result(call_id)

    def test_of_an_unknown_call_is_refused(self) -> None:
        with refused("TOOL_CALL_NOT_FOUND", "call-x"):
            running(READ).result("call-x")

    def test_of_a_finished_turn_is_refused(self) -> None:
        world = running(READ)
        [call_id] = calls(world)
        world.cancel()
        with refused("TURN_ALREADY_FINISHED"):
            world.result(call_id)

    def test_of_a_call_that_was_not_dispatched_is_refused(self) -> None:
        world = running(READ, WRITE, ("execute_command", {"command": "make"}))
        _, asked, blocked = calls(world)
        with refused("TOOL_CALL_NOT_DISPATCHED", "asked"):
            world.result(asked)
        world.decide(index=1)
        with refused("TOOL_CALL_NOT_DISPATCHED", "ready"):
            world.result(blocked)

    def test_of_an_observer_is_refused(self) -> None:
        world = running(READ)
        result = v1.ToolResult(call_id=calls(world)[0], status=v1.ToolResult.STATUS_SUCCEEDED)
        with refused("NOT_EXECUTOR"):
            world.commit(lambda draft: frames.tool_result(draft, world.sender(observer=True), result))


class TestApprovalDecision:
    def decide(self, world: World, **fields: object) -> list[v1.SessionEvent]:
        """Decide the first open approval with other fields than the right ones."""
        [approval, *_] = world.open_approvals()
        right = {
            "approval_id": approval.approval_id,
            "arguments_sha256": approval.tool_call.arguments_sha256,
            "verdict": v1.APPROVAL_VERDICT_APPROVE,
        }
        decision = v1.ApprovalDecision(**(right | fields))  # type: ignore[arg-type]
        return world.commit(lambda draft: frames.approval_decision(draft, world.sender("f-d"), decision, approval))

    def test_approve_dispatches_the_call(self) -> None:
        world = running(WRITE)
        [approval] = world.open_approvals()
        resolved, dispatched = self.decide(world)
        assert resolved.approval_resolved.approval.state == v1.APPROVAL_STATE_APPROVED
        assert resolved.approval_resolved.approval.revision == 2
        assert resolved.approval_resolved.approval.decided_by == USER
        assert resolved.frame_id == "f-d"
        assert dispatched.tool_call_dispatched.approval_id == approval.approval_id

    def test_reject_completes_the_call_with_the_comment_and_needs_no_digest(self) -> None:
        world = running(WRITE)
        _, completed = self.decide(
            world, verdict=v1.APPROVAL_VERDICT_REJECT, arguments_sha256="", comment="not that file"
        )
        result = completed.tool_call_completed.result
        assert result.status == v1.ToolResult.STATUS_REJECTED
        assert result.error_message == "a human rejected this call: not that file"
        assert next_effect(world.state) is not None

    def test_edits_are_what_is_dispatched(self) -> None:
        edits = '{"path": "c.py", "content": "y"}'
        resolved, dispatched = self.decide(
            running(WRITE), verdict=v1.APPROVAL_VERDICT_APPROVE_WITH_EDITS, edited_arguments_json=edits
        )
        assert resolved.approval_resolved.approval.state == v1.APPROVAL_STATE_APPROVED_WITH_EDITS
        call = dispatched.tool_call_dispatched.tool_call
        assert (call.arguments_json, call.arguments_sha256) == (edits, sha256(edits.encode()).hexdigest())

    def test_edits_are_held_to_the_tools_schema(self) -> None:
        for edits in ("{", '{"path": 3}'):
            with refused("TOOL_ARGUMENTS_INVALID", "write_file"):
                self.decide(running(WRITE), verdict=v1.APPROVAL_VERDICT_APPROVE_WITH_EDITS, edited_arguments_json=edits)

    def test_edits_are_held_to_policy(self) -> None:
        world = running(("write_file", {"path": "plan.md", "content": "x"}), agent_id="architect")
        edits = '{"path": "main.py", "content": "x"}'
        with refused("PERMISSION_DENIED", "*.md"):
            self.decide(world, verdict=v1.APPROVAL_VERDICT_APPROVE_WITH_EDITS, edited_arguments_json=edits)

    def test_edits_of_a_tool_that_is_gone_are_refused(self) -> None:
        world = running(WRITE)
        world.commit(lambda draft: frames.update_tools(draft, world.sender(), v1.UpdateTools()))
        with refused("TOOL_ARGUMENTS_INVALID", "no longer"):
            self.decide(world, verdict=v1.APPROVAL_VERDICT_APPROVE_WITH_EDITS, edited_arguments_json="{}")

    def test_an_edited_call_waits_for_the_calls_it_conflicts_with_now(self) -> None:
        world = running(READ, WRITE)
        read, write = calls(world)
        edits = '{"path": "a.py", "content": "y"}'
        events = self.decide(world, verdict=v1.APPROVAL_VERDICT_APPROVE_WITH_EDITS, edited_arguments_json=edits)
        assert world.kinds(events) == ["approval_resolved"]
        assert world.dispatched(world.result(read)) == [write]

    def test_approving_needs_the_digest_of_what_was_shown(self) -> None:
        world = running(WRITE)
        for digest in ("", "0" * 64):
            with refused("APPROVAL_STALE", "digest"):
                self.decide(world, arguments_sha256=digest)

    def test_a_revision_that_never_was_is_stale(self) -> None:
        world = running(WRITE)
        with refused("APPROVAL_STALE", "revision 1"):
            self.decide(world, expected_revision=2)
        self.decide(world, expected_revision=1)

    def test_the_first_decision_wins(self) -> None:
        world = running(WRITE)
        [approval] = world.open_approvals()
        self.decide(world)
        decided = v1.Approval(
            approval_id=approval.approval_id, session_id="s1", state=v1.APPROVAL_STATE_APPROVED, revision=2
        )
        decision = v1.ApprovalDecision(approval_id=approval.approval_id, verdict=v1.APPROVAL_VERDICT_REJECT)
        with refused("APPROVAL_ALREADY_RESOLVED", state="APPROVED", revision="2"):
            world.commit(lambda draft: frames.approval_decision(draft, world.sender(), decision, decided))
        world.cancel()
        with refused("APPROVAL_ALREADY_RESOLVED", state="APPROVED", revision="2"):
            world.commit(lambda draft: frames.approval_decision(draft, world.sender(), decision, decided))


class TestCancelTurn:
    def test_stops_the_running_turn(self) -> None:
        world = running(READ, WRITE, ("switch_agent", {"agent": "debug"}))
        events = world.cancel()
        assert world.kinds(events) == [
            "turn_cancel_requested",
            "tool_call_completed",
            "approval_resolved",
            "tool_call_completed",
            "tool_call_completed",
            "turn_finished",
        ]
        assert events[2].approval_resolved.approval.state == v1.APPROVAL_STATE_CANCELLED
        assert events[-1].turn_finished.state == v1.TURN_STATE_CANCELLED

    def test_drops_a_turn_from_the_queue(self) -> None:
        world = World()
        world.say("one")
        queued = world.say("two")[0].turn_id
        events = world.cancel(queued)
        assert world.kinds(events) == ["turn_cancel_requested", "turn_finished"]
        assert {event.turn_id for event in events} == {queued}
        assert world.state.turn is not None, "the running turn goes on"

    def test_may_drop_the_whole_queue(self) -> None:
        world = World()
        turns = [world.say(text)[0].turn_id for text in ("one", "two", "three")]
        events = world.cancel(drop_queue=True)
        assert {event.turn_id for event in events if event.HasField("turn_finished")} == set(turns)
        assert not world.state.queue

    def test_needs_a_turn_that_is_not_over(self) -> None:
        world = World()
        with refused("TURN_NOT_FOUND", "no turn is running"):
            world.cancel()
        with refused("TURN_NOT_FOUND", "no such turn"):
            world.cancel("turn-x")
        turn_id = world.say()[0].turn_id
        world.answer(text="done")
        with refused("TURN_ALREADY_FINISHED"):
            world.cancel(turn_id)


class TestSwitchAgent:
    def switch(self, world: World, agent_id: str) -> list[v1.SessionEvent]:
        switch = v1.SwitchAgent(agent_id=agent_id, reason="I say so")
        return world.commit(lambda draft: frames.switch_agent(draft, world.sender(), switch))

    def test_puts_another_agent_in_charge(self) -> None:
        world = World()
        [event] = self.switch(world, "debug")
        assert event.agent_handoff == v1.AgentHandoff(from_agent_id="coder", to_agent_id="debug", reason="I say so")
        assert event.turn_id == ""
        assert world.state.agent_id == "debug"

    def test_belongs_to_the_turn_that_runs(self) -> None:
        world = World()
        turn_id = world.say()[0].turn_id
        assert self.switch(world, "debug")[0].turn_id == turn_id

    def test_needs_an_agent_and_an_open_session(self) -> None:
        with refused("AGENT_NOT_FOUND"):
            self.switch(World(), "nobody")
        with refused("SESSION_CLOSED"):
            self.switch(closed(), "debug")


class TestTools:
    def update(self, world: World, *tools: v1.ToolSpec, observer: bool = False) -> list[v1.SessionEvent]:
        update = v1.UpdateTools(tools=tools)
        return world.commit(lambda draft: frames.update_tools(draft, world.sender(observer=observer), update))

    def test_an_update_replaces_the_list(self) -> None:
        world = World()
        extra = v1.ToolSpec(name="deploy", input_schema_json='{"type": "object"}')
        self.update(world, extra)
        assert world.state.tools == (extra,)

    def test_a_schema_that_cannot_be_used_is_named(self) -> None:
        tools = (v1.ToolSpec(name="read_file", input_schema_json="["), v1.ToolSpec(name="x", input_schema_json="["))
        with pytest.raises(ValidationFailed, match=r"update_tools\.tools\[1\]\.input_schema_json"):
            self.update(World(), *tools)

    def test_the_schemas_of_known_tools_are_the_servers(self) -> None:
        self.update(World(), v1.ToolSpec(name="read_file", input_schema_json="["), v1.ToolSpec(name="switch_agent"))

    def test_an_observer_declares_none(self) -> None:
        with refused("NOT_EXECUTOR"):
            self.update(World(), observer=True)

    def test_a_closed_session_takes_none(self) -> None:
        with refused("SESSION_CLOSED"):
            self.update(closed())

    def test_a_client_that_attaches_with_what_is_known_changes_nothing(self) -> None:
        world = World()
        assert world.commit(lambda draft: frames.attach(draft, world.sender(), CLIENT_TOOLS)) == []

    def test_another_client_becomes_the_executor_of_the_next_epoch(self) -> None:
        world = World()
        sender = world.sender("", client_id="c2")
        [event] = world.commit(lambda draft: frames.attach(draft, sender, CLIENT_TOOLS))
        assert event.executor_changed == v1.ExecutorChanged(client_id="c2", epoch=2)


def test_a_call_goes_through_every_phase() -> None:
    world = running(WRITE)
    [call_id] = calls(world)

    def phase() -> Phase:
        assert world.state.turn is not None
        return world.state.turn.calls[call_id].phase

    seen = [phase()]
    world.decide()
    seen.append(phase())
    world.start(call_id)
    seen.append(phase())
    world.result(call_id)
    seen.append(phase())
    assert seen == [Phase.ASKED, Phase.DISPATCHED, Phase.STARTED, Phase.DONE]
