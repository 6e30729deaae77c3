"""What a log folds to, and who has to act next."""

import pytest

from agent_runtime import v1
from agent_runtime_server.core.transcript import Answered, HandedOff, Said
from agent_runtime_server.engine import steps
from agent_runtime_server.engine.state import State
from agent_runtime_server.engine.turn import (
    Route,
    TakeStep,
    apply,
    next_effect,
)

from .world import SECOND, World

READ = ("read_file", {"path": "a.py"})
WRITE = ("write_file", {"path": "b.py", "content": "x"})
QUESTION = ("ask_followup_question", {"question": "which?"})


def turn_state(world: World) -> str:
    assert world.state.turn is not None
    return v1.TurnState.Name(world.state.turn.state).removeprefix("TURN_STATE_")


def test_without_a_message_there_is_nothing_to_do() -> None:
    assert next_effect(World().state) is None


def test_a_turn_of_the_orchestrator_begins_with_a_choice() -> None:
    world = World(agent_id="orchestrator")
    world.say()
    assert world.state.turn is not None
    assert next_effect(world.state) == Route(world.state.turn.turn_id)


def test_a_session_stays_with_its_agent() -> None:
    world = World(agent_id="coder")
    events = world.say()
    assert world.kinds(events) == ["user_message", "turn_started", "routing_decided"]
    assert events[-1].routing_decided.source == v1.ROUTING_SOURCE_STICKY
    assert next_effect(world.state) == TakeStep(events[0].turn_id, 0, 1)


def test_a_message_may_name_its_agent() -> None:
    world = World(agent_id="orchestrator")
    events = world.say(agent_id="debug")
    assert world.kinds(events) == ["user_message", "turn_started", "agent_handoff", "routing_decided"]
    assert events[-1].routing_decided.source == v1.ROUTING_SOURCE_EXPLICIT
    assert world.state.agent_id == "debug"
    assert isinstance(next_effect(world.state), TakeStep)


def test_the_routers_choice_is_no_handoff_of_the_turn() -> None:
    world = World(agent_id="orchestrator")
    world.say(agent_id="coder")
    assert world.state.turn is not None
    assert world.state.turn.handoffs == 0
    assert [type(entry) for entry in world.state.transcript] == [Said]


def test_messages_queue_behind_the_running_turn() -> None:
    world = World()
    first, second = world.say("one")[0].turn_id, world.say("two")[0].turn_id
    assert [queued.turn_id for queued in world.state.queue] == [second]
    events = world.answer(text="done")
    assert [event.turn_id for event in events if event.HasField("turn_finished")] == [first]
    assert world.state.turn is not None
    assert world.state.turn.turn_id == second
    assert not world.state.queue


def test_each_answer_counts_a_step() -> None:
    world = World()
    world.say()
    [call_id] = world.dispatched(world.answer(READ))
    assert next_effect(world.state) is None, "a call is open"
    world.result(call_id)
    effect = next_effect(world.state)
    assert isinstance(effect, TakeStep)
    assert effect.number == 1


def test_a_take_over_makes_another_attempt_of_the_same_step() -> None:
    world = World()
    world.say()
    world.commit(lambda draft: steps.recovered(draft, v1.TurnRecovered.CAUSE_OWNER_LOST))
    effect = next_effect(world.state)
    assert isinstance(effect, TakeStep)
    assert (effect.number, effect.attempt) == (0, 2)


@pytest.mark.parametrize(
    ("calls", "state"),
    [
        ([], "RUNNING"),
        ([READ], "WAITING_FOR_TOOL"),
        ([WRITE], "WAITING_FOR_APPROVAL"),
        ([QUESTION], "WAITING_FOR_USER"),
        ([READ, WRITE], "WAITING_FOR_TOOL"),
        ([WRITE, QUESTION], "WAITING_FOR_APPROVAL"),
        ([READ, WRITE, QUESTION], "WAITING_FOR_TOOL"),
    ],
)
def test_an_open_call_outweighs_an_approval_and_that_a_question(calls: list[tuple[str, object]], state: str) -> None:
    world = World()
    world.say()
    if calls:
        world.answer(*calls)
    assert turn_state(world) == state
    assert (next_effect(world.state) is None) == bool(calls)


def test_a_started_call_that_is_to_stop_keeps_the_turn_cancelling() -> None:
    world = World()
    world.say()
    [call_id] = world.dispatched(world.answer(READ))
    world.start(call_id)
    assert turn_state(world) == "WAITING_FOR_TOOL"
    world.cancel()
    assert turn_state(world) == "CANCELLING"
    asked_at = world.nanos
    world.nanos += SECOND
    world.cancel()
    assert world.state.turn is not None
    assert world.state.turn.cancel_nanos == asked_at, "asking again does not begin the grace period anew"


def test_time_spent_waiting_for_a_human_is_kept_out_of_the_turns_own() -> None:
    world = World()
    world.say()
    world.answer(WRITE)
    world.nanos += 60 * SECOND
    [call_id] = world.dispatched(world.decide())
    turn = world.state.turn
    assert turn is not None
    assert (turn.paused_nanos, turn.waiting_nanos) == (60 * SECOND, 0)
    world.nanos += 5 * SECOND
    world.result(call_id)
    assert turn.paused_nanos == 60 * SECOND, "a tool is no human"


def test_usage_adds_up_over_steps_and_turns() -> None:
    world = World()
    for _ in range(2):
        world.say()
        [call_id] = world.dispatched(world.answer(READ))
        world.result(call_id)
        events = world.answer(text="done")
        assert events[-1].turn_finished.usage.input_tokens == 20
    assert world.state.usage == v1.Usage(input_tokens=40, output_tokens=4, model_calls=4)


def test_the_last_turn_is_remembered() -> None:
    world = World()
    turn_id = world.say()[0].turn_id
    world.answer(text="done")
    assert world.state.last_turn is not None
    assert world.state.last_turn.turn_id == turn_id
    assert world.state.last_turn.state == v1.TURN_STATE_COMPLETED
    assert [*world.state.finished] == [turn_id]


def test_the_transcript_tells_of_handoffs_answers_and_results() -> None:
    world = World()
    world.say()
    world.answer(("switch_agent", {"agent": "debug", "reason": "look"}), text="over to you")
    said, answered, handed_off = world.state.transcript
    assert isinstance(said, Said)
    assert isinstance(answered, Answered)
    assert isinstance(handed_off, HandedOff)
    assert answered.calls[0].result is not None
    assert handed_off.handoff.to_agent_id == "debug"


def test_an_edited_call_stands_in_the_transcript_as_it_was_run() -> None:
    world = World()
    world.say()
    world.answer(WRITE)
    world.decide(v1.APPROVAL_VERDICT_APPROVE_WITH_EDITS, edits='{"path": "c.py", "content": "y"}')
    answer = world.state.transcript[-1]
    assert isinstance(answer, Answered)
    assert answer.calls[0].call.arguments_json == '{"path": "c.py", "content": "y"}'


def test_an_event_of_a_newer_version_moves_the_head_and_nothing_else() -> None:
    world = World()
    world.say()
    before = next_effect(world.state)
    apply(world.state, v1.SessionEvent(seq=99))
    assert world.state.head_seq == 99
    assert next_effect(world.state) == before


@pytest.mark.parametrize(
    "event",
    [
        v1.SessionEvent(turn_recovered=v1.TurnRecovered(attempt=2)),
        v1.SessionEvent(routing_decided=v1.RoutingDecided(agent_id="coder")),
        v1.SessionEvent(assistant_message=v1.AssistantMessage(message_id="m", step_id="s")),
        v1.SessionEvent(agent_handoff=v1.AgentHandoff(to_agent_id="coder")),
        v1.SessionEvent(question_asked=v1.QuestionAsked()),
        v1.SessionEvent(turn_cancel_requested=v1.TurnCancelRequested()),
        v1.SessionEvent(turn_finished=v1.TurnFinished()),
    ],
    ids=lambda event: str(event.WhichOneof("payload")),
)
def test_no_event_begins_a_turn_by_itself(event: v1.SessionEvent) -> None:
    state = State("s1")
    apply(state, event)
    assert state.turn is None
    assert next_effect(state) is None


def test_a_call_outside_of_a_turn_is_known_but_not_open() -> None:
    state = State("s1")
    apply(state, v1.SessionEvent(assistant_message=v1.AssistantMessage(message_id="m", step_id="s")))
    proposed = v1.ToolCallProposed(tool_call=v1.ToolCall(call_id="call-1"))
    apply(state, v1.SessionEvent(turn_id="turn-1", tool_call_proposed=proposed))
    assert state.calls["call-1"] == "turn-1"
    assert state.turn is None


def test_a_lost_memory_is_folded_anew_from_the_log() -> None:
    world = World(agent_id="orchestrator")
    world.say(agent_id="coder")
    [read] = world.dispatched(world.answer(READ, WRITE, QUESTION))
    world.crash()
    world.start(read)
    world.crash()
    world.decide()
    world.crash()
    assert world.state.closed is False
    assert turn_state(world) == "WAITING_FOR_TOOL"
