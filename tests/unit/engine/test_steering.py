"""A message that comes while a turn runs queues, steers it, or interrupts it."""

import pytest

from agent_runtime import v1
from agent_runtime_server.core.errors import ValidationFailed
from agent_runtime_server.core.transcript import Said
from agent_runtime_server.engine import frames, steps
from agent_runtime_server.engine.turn import TakeStep, next_effect

from .world import World


def say(world: World, text: str, delivery: "v1.MessageDelivery.ValueType", agent_id: str = "") -> list[v1.SessionEvent]:
    message = v1.UserMessage(parts=[v1.Part(text=text)], delivery=delivery, agent_id=agent_id)
    return world.commit(lambda draft: frames.user_message(draft, world.sender(), message))


def heard(world: World) -> list[str]:
    return [entry.message.parts[0].text for entry in world.state.transcript if isinstance(entry, Said)]


def turn_id(world: World) -> str:
    assert world.state.turn is not None
    return world.state.turn.turn_id


def test_a_steering_message_joins_the_turn_and_leaves_the_step_in_hand_alone() -> None:
    world = World()
    world.say("begin")
    before = next_effect(world.state)
    (event,) = say(world, "rather so", v1.MESSAGE_DELIVERY_STEER)
    assert event.turn_id == turn_id(world)
    assert next_effect(world.state) == before
    assert heard(world) == ["begin"]


def test_an_answer_without_calls_does_not_end_a_turn_that_was_steered_meanwhile() -> None:
    world = World()
    world.say("begin")
    (steering,) = say(world, "rather so", v1.MESSAGE_DELIVERY_STEER)
    events = world.answer(text="done")
    assert world.kinds(events) == ["assistant_message", "steering_seen"]
    assert events[-1].steering_seen == v1.SteeringSeen(message_seqs=[steering.seq], step_number=1)
    assert heard(world) == ["begin", "rather so"]
    assert world.kinds(world.answer(text="so done")) == ["assistant_message", "turn_finished"]


def test_steering_is_seen_behind_the_results_that_the_turn_waits_for() -> None:
    world = World()
    world.say("begin")
    calls = world.dispatched(world.answer(("read_file", {"path": "a"})))
    say(world, "rather so", v1.MESSAGE_DELIVERY_STEER)
    assert world.kinds(world.result(calls[0])) == ["tool_call_completed", "steering_seen"]
    effect = next_effect(world.state)
    assert isinstance(effect, TakeStep)
    assert effect.number == 1


def test_a_completion_that_has_not_heard_the_user_is_not_one() -> None:
    world = World()
    world.say("begin")
    say(world, "one more thing", v1.MESSAGE_DELIVERY_STEER)
    events = world.answer(("attempt_completion", {"result": "done"}))
    assert "turn_finished" not in world.kinds(events)
    assert world.kinds(events)[-1] == "steering_seen"


def test_steering_that_no_step_saw_is_in_the_next_turns_transcript() -> None:
    world = World()
    world.say("begin")
    say(world, "rather so", v1.MESSAGE_DELIVERY_STEER)
    world.cancel()
    assert heard(world) == ["begin", "rather so"]


def test_a_restarted_step_sees_what_came_meanwhile() -> None:
    world = World()
    world.say("begin")
    say(world, "rather so", v1.MESSAGE_DELIVERY_STEER)
    events = world.commit(lambda draft: steps.recovered(draft, v1.TurnRecovered.CAUSE_OWNER_LOST))
    assert world.kinds(events) == ["turn_recovered", "steering_seen"]


def test_an_interrupting_message_cancels_the_turn_and_goes_before_the_queue() -> None:
    world = World()
    world.say("begin")
    world.say("queued")
    events = say(world, "stop, this first", v1.MESSAGE_DELIVERY_INTERRUPT)
    assert world.kinds(events)[:3] == ["user_message", "turn_cancel_requested", "turn_finished"]
    assert heard(world)[-1] == "stop, this first"
    assert [queued.message.parts[0].text for queued in world.state.queue] == ["queued"]


@pytest.mark.parametrize("delivery", v1.MessageDelivery.values())
def test_without_a_running_turn_every_message_begins_one(delivery: "v1.MessageDelivery.ValueType") -> None:
    world = World()
    assert world.kinds(say(world, "begin", delivery))[:2] == ["user_message", "turn_started"]


def test_a_steering_message_does_not_change_the_agent() -> None:
    world = World()
    world.say("begin")
    with pytest.raises(ValidationFailed, match="switch_agent"):
        say(world, "rather so", v1.MESSAGE_DELIVERY_STEER, agent_id="debug")
