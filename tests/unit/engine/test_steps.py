"""What becomes of a model's answer."""

import json
from hashlib import sha256

import pytest

from agent_runtime import v1
from agent_runtime_server.agents.definition import Agent
from agent_runtime_server.agents.registry import Registry
from agent_runtime_server.agents.routing import Route as Choice
from agent_runtime_server.core.errors import ModelUnavailable
from agent_runtime_server.engine import frames, steps
from agent_runtime_server.engine.budget import NO_CALLS_TODAY
from agent_runtime_server.engine.limits import Limits
from agent_runtime_server.engine.turn import TakeStep, next_effect
from agent_runtime_server.llm.base import ModelAnswer

from .world import CLIENT_TOOLS, SECOND, StepIds, World

SUCCEEDED, FAILED = v1.ToolResult.STATUS_SUCCEEDED, v1.ToolResult.STATUS_FAILED
REJECTED, CANCELLED = v1.ToolResult.STATUS_REJECTED, v1.ToolResult.STATUS_CANCELLED


def read(path: str) -> tuple[str, object]:
    return "read_file", {"path": path}


def write(path: str) -> tuple[str, object]:
    return "write_file", {"path": path, "content": "x"}


def complete(result: str = "all done") -> tuple[str, object]:
    return "attempt_completion", {"result": result}


def switch(agent_id: str) -> tuple[str, object]:
    return "switch_agent", {"agent": agent_id, "reason": "because"}


def ask(question: str, *options: str) -> tuple[str, object]:
    return "ask_followup_question", {"question": question, "options": options}


def spoken_to(**world: object) -> World:
    made = World(**world)  # type: ignore[arg-type]
    made.say()
    return made


def proposed(events: list[v1.SessionEvent]) -> list[v1.ToolCall]:
    return [event.tool_call_proposed.tool_call for event in events if event.HasField("tool_call_proposed")]


def results(events: list[v1.SessionEvent]) -> list[v1.ToolResult]:
    return [event.tool_call_completed.result for event in events if event.HasField("tool_call_completed")]


class TestAnAnswerWithoutCalls:
    def test_ends_the_turn(self) -> None:
        world = spoken_to()
        world.nanos += 3 * SECOND
        message, finished = world.answer(text="done")
        assert message.assistant_message.parts[0].text == "done"
        assert message.actor == v1.Actor(kind=v1.ACTOR_KIND_AGENT, subject="coder")
        assert finished.turn_finished.state == v1.TURN_STATE_COMPLETED
        assert finished.turn_finished.elapsed.seconds == 3
        assert finished.turn_finished.usage.input_tokens == 10

    def test_keeps_the_models_reasoning_apart(self) -> None:
        world = spoken_to()
        answer = ModelAnswer("", "hmm", (), v1.Usage(), "stop", "m")
        agent = world.agents.get("coder")
        message, _ = world.commit(lambda draft: steps.answered(draft, agent, StepIds(world.new_id), answer))
        assert message.assistant_message.reasoning[0].text == "hmm"
        assert not message.assistant_message.parts


class TestCallsSideBySide:
    def test_reads_are_all_dispatched_at_once_in_order(self) -> None:
        world = spoken_to()
        events = world.answer(read("a"), read("b"), read("c"))
        made = [call.call_id for call in proposed(events)]
        assert world.kinds(events) == [
            "assistant_message", *["tool_call_proposed"] * 3, *["tool_call_dispatched"] * 3,
        ]  # fmt: skip
        assert world.dispatched(events) == made

    def test_a_call_names_its_exact_arguments(self) -> None:
        world = spoken_to()
        [call] = proposed(world.answer(("read_file", '{ "path" : "a" }')))
        assert call.arguments_json == '{ "path" : "a" }'
        assert call.arguments_sha256 == sha256(call.arguments_json.encode()).hexdigest()
        assert (call.executor, call.effect, call.risk) == (
            v1.TOOL_EXECUTOR_CLIENT, v1.TOOL_EFFECT_READ, v1.RISK_LEVEL_LOW,
        )  # fmt: skip

    def test_a_call_waits_for_the_earlier_ones_it_conflicts_with(self) -> None:
        world = spoken_to()
        events = world.answer(read("a"), write("a"), read("b"), read("a"))
        first, second, third, fourth = proposed(events)
        assert [call.depends_on_call_ids for call in (first, second, third, fourth)] == [
            [], [first.call_id], [], [second.call_id],
        ]  # fmt: skip
        assert world.dispatched(events) == [first.call_id, third.call_id]
        assert world.dispatched(world.decide()) == [], "approved, but it waits for the read"
        assert world.dispatched(world.result(first.call_id)) == [second.call_id]
        assert world.dispatched(world.result(second.call_id)) == [fourth.call_id]

    def test_a_refused_call_holds_up_nobody(self) -> None:
        world = spoken_to()
        events = world.answer(write("a"), read("a"))
        blocked = proposed(events)[1].call_id
        assert world.dispatched(world.decide(v1.APPROVAL_VERDICT_REJECT)) == [blocked]

    def test_the_model_is_asked_again_only_when_all_are_done(self) -> None:
        world = spoken_to()
        one, two = world.dispatched(world.answer(read("a"), read("b")))
        world.result(two)
        assert next_effect(world.state) is None
        world.result(one, FAILED)
        assert isinstance(next_effect(world.state), TakeStep), "a failure is for the model to look at"


class TestCallsThatCannotBe:
    @pytest.mark.parametrize("arguments", ["{", "[]", '{"path": 1, "path": 2}', '{"path": NaN}'])
    def test_arguments_that_are_no_object_are_stored_as_an_empty_one(self, arguments: str) -> None:
        world = spoken_to()
        events = world.answer(("read_file", arguments))
        [call], [result] = proposed(events), results(events)
        assert call.arguments_json == "{}"
        assert result.status == FAILED
        assert isinstance(next_effect(world.state), TakeStep), "the model may try again"

    def test_arguments_that_break_the_schema_fail_with_the_field(self) -> None:
        [result] = results(spoken_to().answer(("read_file", {"path": 3})))
        assert result.status == FAILED
        assert "path" in result.error_message

    def test_no_arguments_are_an_empty_object(self) -> None:
        world = spoken_to()
        assert world.dispatched(world.answer(("list_files", "")))

    def test_an_unknown_tool_fails_with_the_tools_there_are(self) -> None:
        [result] = results(spoken_to().answer(("fly", {})))
        assert result.status == FAILED
        assert "'fly'" in result.error_message
        assert "read_file" in result.error_message

    def test_a_tool_the_client_does_not_declare_is_unknown(self) -> None:
        [result] = results(spoken_to(tools=CLIENT_TOOLS[:1]).answer(("write_file", {"path": "a", "content": ""})))
        assert "there is no tool 'write_file'" in result.error_message

    @pytest.mark.parametrize(("name", "kept"), [("fly away", "fly_away"), ("", "unnamed"), ("x" * 99, "x" * 64)])
    def test_a_name_that_could_not_stand_in_the_log_is_mended(self, name: str, kept: str) -> None:
        [call] = proposed(spoken_to().answer((name, {})))
        assert call.tool_name == kept

    def test_what_policy_denies_is_rejected(self) -> None:
        [result] = results(spoken_to(agent_id="architect").answer(write("main.py")))
        assert result.status == REJECTED
        assert "*.md" in result.error_message

    def test_calls_beyond_the_limit_fail(self) -> None:
        world = spoken_to(limits=Limits(calls_per_step=2))
        events = world.answer(read("a"), read("b"), read("c"), ("read_file", "{"))
        assert len(world.dispatched(events)) == 2
        assert [result.error_message for result in results(events)] == ["an answer may have 2 calls"] * 2

    def test_calls_that_a_day_does_not_allow_fail_and_the_others_run(self) -> None:
        why = f"the user {NO_CALLS_TODAY}"
        world = spoken_to()
        events = world.answer(read("a"), read("b"), write("c"), refused={1: why, 2: why})
        assert len(world.dispatched(events)) == 1
        assert [(result.status, result.error_message) for result in results(events)] == [(FAILED, why)] * 2

    def test_a_model_step_that_fails_ends_the_turn_with_the_reason(self) -> None:
        world = spoken_to()
        [finished] = world.commit(lambda draft: steps.failed(draft, ModelUnavailable("down")))
        assert finished.turn_finished.state == v1.TURN_STATE_FAILED
        assert finished.turn_finished.error.reason == "MODEL_UNAVAILABLE"


class TestApprovals:
    def test_a_human_is_asked_before_anything_changes(self) -> None:
        world = spoken_to()
        events = world.answer(write("a"), ("execute_command", {"command": "make"}))
        assert world.dispatched(events) == []
        one, two = world.open_approvals()
        assert one.tool_call == proposed(events)[0]
        assert one.requester.subject == "coder"
        assert (one.revision, one.state, one.session_id) == (1, v1.APPROVAL_STATE_PENDING, "s1")
        assert list(one.policy_rules) == ["write tools ask"]
        assert one.expire_time.seconds == world.nanos // SECOND + 300
        assert two.tool_call.risk == v1.RISK_LEVEL_HIGH

    def test_an_approval_may_wait_for_ever(self) -> None:
        world = spoken_to(limits=Limits(approval_action="wait"))
        world.answer(write("a"))
        assert not world.open_approvals()[0].HasField("expire_time")

    def test_a_tool_of_the_client_always_asks(self) -> None:
        extra = v1.ToolSpec(name="deploy", risk=v1.RISK_LEVEL_LOW, effect=v1.TOOL_EFFECT_READ)
        world = spoken_to(tools=[extra])
        world.answer(("deploy", {}))
        [approval] = world.open_approvals()
        assert list(approval.policy_rules) == ["tools declared by the client ask"]


class TestQuestions:
    def test_are_put_to_the_user_with_their_options(self) -> None:
        world = spoken_to()
        events = world.answer(ask("which?", "red", "blue"))
        question = events[-1].question_asked.question
        assert (question.text, question.agent_id) == ("which?", "coder")
        assert [(option.option_id, option.label) for option in question.options] == [("1", "red"), ("2", "blue")]
        assert next_effect(world.state) is None

    def test_come_one_at_a_time(self) -> None:
        world = spoken_to()
        [second] = results(world.answer(ask("one?"), ask("two?")))
        assert (second.status, second.error_message) == (FAILED, "ask one question at a time")

    def test_do_not_hold_up_the_tools_beside_them(self) -> None:
        world = spoken_to()
        [call_id] = world.dispatched(world.answer(ask("which?"), read("a")))
        world.result(call_id)
        assert next_effect(world.state) is None
        world.say("the red one")
        assert isinstance(next_effect(world.state), TakeStep)


class TestSwitchAgent:
    def test_lets_the_other_agent_take_the_next_step(self) -> None:
        world = spoken_to()
        events = world.answer(switch("debug"))
        assert world.kinds(events)[-2:] == ["tool_call_completed", "agent_handoff"]
        assert events[-1].agent_handoff.reason == "because"
        assert world.state.agent_id == "debug"
        assert isinstance(next_effect(world.state), TakeStep)

    def test_waits_for_the_other_calls_of_its_answer(self) -> None:
        world = spoken_to()
        [call_id] = world.dispatched(world.answer(switch("debug"), read("a")))
        assert world.state.agent_id == "coder"
        world.result(call_id, FAILED)
        assert world.state.agent_id == "debug", "a failed sibling is for the other agent to look at"

    def test_happens_once_to_the_same_agent(self) -> None:
        world = spoken_to()
        first, second = results(world.answer(switch("debug"), switch("debug")))
        assert first.status == SUCCEEDED
        assert second.error_message == "debug is in charge already"

    def test_goes_to_agents_it_may_name_only(self) -> None:
        [result] = results(spoken_to().answer(switch("nobody")))
        assert result.status == FAILED
        assert "agent" in result.error_message

    def test_to_an_agent_that_was_taken_away_fails(self) -> None:
        world = World()
        lonely = Agent("coder", "", "", "", tools=("switch_agent",), handoff_agent_ids=("gone",))
        world.agents = Registry([lonely])
        world.say()
        [result] = results(world.answer(switch("gone")))
        assert result.error_message == "there is no agent 'gone'"

    def test_is_bounded(self) -> None:
        world = spoken_to(limits=Limits(turn_handoffs=1))
        world.answer(switch("debug"))
        [result] = results(world.answer(switch("coder")))
        assert result.status == FAILED
        assert "had its 1 handoffs" in result.error_message
        assert world.state.agent_id == "debug"


class TestAttemptCompletion:
    def test_ends_the_turn_with_its_text_as_the_last_message(self) -> None:
        world = spoken_to()
        events = world.answer(complete("all done"))
        assert world.kinds(events)[-3:] == ["tool_call_completed", "assistant_message", "turn_finished"]
        assert events[-2].assistant_message.parts[0].text == "all done"
        assert events[-2].assistant_message.step_id == "", "it was no step of the model"
        assert events[-1].turn_finished.state == v1.TURN_STATE_COMPLETED

    def test_waits_for_the_calls_beside_it(self) -> None:
        world = spoken_to()
        [call_id] = world.dispatched(world.answer(complete(), read("a")))
        assert world.state.turn is not None
        world.result(call_id)
        assert world.state.turn is None

    @pytest.mark.parametrize("status", [FAILED, CANCELLED, v1.ToolResult.STATUS_OUTCOME_UNKNOWN])
    def test_is_refused_when_a_call_beside_it_did_not_succeed(self, status: "v1.ToolResult.Status.ValueType") -> None:
        world = spoken_to()
        [call_id] = world.dispatched(world.answer(complete(), read("a")))
        _, refusal = results(world.result(call_id, status))
        assert refusal.status == FAILED
        assert "read_file did not succeed" in refusal.error_message
        assert isinstance(next_effect(world.state), TakeStep)

    def test_happens_once(self) -> None:
        first, second = results(spoken_to().answer(complete("one"), complete("two")))
        assert (first.status, second.status) == (SUCCEEDED, CANCELLED)

    def test_waits_for_the_answer_to_a_question(self) -> None:
        world = spoken_to()
        world.answer(complete(), ask("sure?"))
        assert world.state.turn is not None
        world.say("yes")
        assert world.state.turn is None

    def test_begins_the_next_turn(self) -> None:
        world = spoken_to()
        queued = world.say("then this")[0].turn_id
        world.answer(complete())
        assert world.state.turn is not None
        assert world.state.turn.turn_id == queued


class TestLimits:
    def test_a_turn_has_a_bounded_number_of_steps(self) -> None:
        world = spoken_to(limits=Limits(turn_steps=2))
        [first] = world.dispatched(world.answer(read("a")))
        world.result(first)
        [second] = world.dispatched(world.answer(read("a")))
        finished = world.result(second)[-1].turn_finished
        assert finished.state == v1.TURN_STATE_FAILED
        assert finished.error.reason == "TURN_BUDGET_EXCEEDED"
        assert "2 steps" in finished.error.message

    def test_the_last_step_may_still_end_the_turn_well(self) -> None:
        world = spoken_to(limits=Limits(turn_steps=1))
        assert world.answer(text="done")[-1].turn_finished.state == v1.TURN_STATE_COMPLETED


def test_the_routers_choice_is_recorded_with_what_it_cost() -> None:
    world = spoken_to(agent_id="orchestrator")
    choice = Choice(
        agent_id="debug",
        confidence=v1.ROUTING_CONFIDENCE_HIGH,
        probability=0.9,
        source=v1.ROUTING_SOURCE_MODEL,
        reasoning="a bug",
        usage=v1.Usage(input_tokens=7),
    )
    handoff, decided = world.commit(lambda draft: steps.routed(draft, choice))
    assert handoff.agent_handoff.to_agent_id == "debug"
    assert (decided.routing_decided.reasoning, decided.routing_decided.usage.input_tokens) == ("a bug", 7)
    assert isinstance(next_effect(world.state), TakeStep)


def test_a_choice_of_the_agent_in_charge_is_no_handoff() -> None:
    world = spoken_to(agent_id="orchestrator")
    decided = Choice("orchestrator", v1.ROUTING_CONFIDENCE_LOW, 0.4, v1.ROUTING_SOURCE_FALLBACK, "", v1.Usage())
    assert world.kinds(world.commit(lambda draft: steps.routed(draft, decided))) == ["routing_decided"]


def test_a_take_over_voids_what_was_streamed() -> None:
    world = spoken_to()
    [event] = world.commit(lambda draft: steps.recovered(draft, v1.TurnRecovered.CAUSE_OWNER_DRAINED))
    assert event.turn_recovered == v1.TurnRecovered(attempt=2, cause=v1.TurnRecovered.CAUSE_OWNER_DRAINED)


def test_another_agent_put_in_charge_by_the_user_takes_the_next_step() -> None:
    world = spoken_to()
    [call_id] = world.dispatched(world.answer(read("a")))
    switched = v1.SwitchAgent(agent_id="ask")
    world.commit(lambda draft: frames.switch_agent(draft, world.sender(), switched))
    world.result(call_id)
    [message, *_] = world.answer(text=json.dumps("fine"))
    assert message.assistant_message.agent_id == "ask"
