"""A turn spends what it may and no more, and its user is asked in between."""

import pytest

from agent_runtime import v1
from agent_runtime_server.core.errors import CallerError
from agent_runtime_server.core.transcript import Said
from agent_runtime_server.engine.limits import Budget, Limits
from agent_runtime_server.engine.turn import TakeStep, next_effect

from .world import SECOND, World

FAILED = v1.TURN_STATE_FAILED


def spoken_to(turn_steps: int = 50, **budget: int) -> World:
    """A turn of which every answer takes 100 tokens and costs 30 millionths."""
    world = World(limits=Limits(turn_steps=turn_steps, budget=Budget(**budget)))
    world.usage = v1.Usage(input_tokens=90, output_tokens=10, model_calls=1, cost_micros=30)
    world.say()
    return world


def step(world: World, *, calls: int = 1) -> list[v1.SessionEvent]:
    """Let the model ask for calls, and give them their results; returns what came of the last one."""
    events = world.answer(*[("read_file", {"path": f"{number}.py"}) for number in range(calls)])
    for call_id in world.dispatched(events):
        events = world.result(call_id)
    return events


def steps(world: World) -> int:
    """Go on until the turn ends or asks; returns the number of answers."""
    taken = 0
    while isinstance(next_effect(world.state), TakeStep):
        step(world)
        taken += 1
    return taken


def question(world: World) -> v1.Question:
    assert world.state.turn is not None
    assert world.state.turn.question is not None
    return world.state.turn.question


@pytest.mark.parametrize(
    ("budget", "taken", "told"),
    [
        ({"tokens": 350}, 3, ("turn.tokens", "350", "300")),
        ({"tokens": 300}, 3, ("turn.tokens", "300", "300")),
        ({"tokens": 50}, 1, ("turn.tokens", "50", "100")),
        ({"cost_micros": 100}, 3, ("turn.cost", "100", "90")),
        ({"tool_calls": 2}, 3, ("turn.tool_calls", "2", "3")),
        ({"session_tokens": 250}, 2, ("session.tokens", "250", "200")),
        ({"session_cost_micros": 60}, 2, ("session.cost", "60", "60")),
        ({"session_steps": 3}, 3, ("session.steps", "3", "3")),
        ({"session_tool_calls": 2}, 3, ("session.tool_calls", "2", "3")),
        ({"turn_steps": 4, "tokens": 1000}, 4, ("turn.steps", "4", "4")),
    ],
)
def test_a_call_for_which_too_little_is_left_is_not_made(
    budget: dict[str, int], taken: int, told: tuple[str, str, str]
) -> None:
    world = spoken_to(**budget)
    assert steps(world) == taken
    finished = world.log[-1].turn_finished
    assert (finished.state, finished.error.reason) == (FAILED, "TURN_BUDGET_EXCEEDED")
    assert tuple(finished.error.metadata[key] for key in ("budget", "limit", "used")) == told


def test_a_turn_that_fits_ends_well() -> None:
    world = spoken_to(tokens=300, tool_calls=2)
    step(world)
    step(world)
    assert world.answer(text="done")[-1].turn_finished.state == v1.TURN_STATE_COMPLETED


def test_calls_beyond_their_number_are_refused_and_those_before_are_run() -> None:
    world = spoken_to(tool_calls=2)
    events = world.answer(*[("read_file", {"path": f"{number}.py"}) for number in range(3)])
    assert len(world.dispatched(events)) == 2
    [refused] = [event.tool_call_completed.result for event in events if event.HasField("tool_call_completed")]
    assert refused.error_message == "the turn had its 2 tool calls"


def test_a_session_keeps_what_its_turns_have_spent() -> None:
    world = spoken_to(session_tokens=250)
    world.answer(text="one")
    world.say()
    world.answer(text="two")
    world.say()
    world.answer(text="three, for which there was a little left")
    assert world.say()[-1].turn_finished.error.metadata["budget"] == "session.tokens"


@pytest.mark.parametrize(
    ("budget", "told"),
    [({"session_steps": 3}, ("session.steps", "3", "3")), ({"session_seconds": 60}, ("session.seconds", "60", "60"))],
)
def test_steps_and_seconds_add_up_over_the_turns_of_a_session(
    budget: dict[str, int], told: tuple[str, str, str]
) -> None:
    world = spoken_to(**budget)
    for _ in range(3):
        world.nanos += 20 * SECOND
        assert world.answer(text="done")[-1].turn_finished.state == v1.TURN_STATE_COMPLETED
        world.nanos += 1000 * SECOND  # between turns, which is nobody's
        finished = world.say()[-1].turn_finished
        world.crash()
    assert finished.error.reason == "TURN_BUDGET_EXCEEDED"
    assert tuple(finished.error.metadata[key] for key in ("budget", "limit", "used")) == told


def test_waiting_for_a_human_takes_none_of_a_sessions_seconds() -> None:
    world = spoken_to(session_seconds=60)
    world.answer(("write_file", {"path": "a", "content": "b"}))
    world.nanos += 200 * SECOND
    world.decide(v1.APPROVAL_VERDICT_REJECT)
    assert isinstance(next_effect(world.state), TakeStep)


def test_tool_calls_of_a_session_beyond_their_number_are_refused() -> None:
    world = spoken_to(session_tool_calls=2)
    step(world)
    world.answer(text="done")
    world.say()
    events = world.answer(*[("read_file", {"path": f"{number}.py"}) for number in range(2)])
    assert len(world.dispatched(events)) == 1
    [refused] = [event.tool_call_completed.result for event in events if event.HasField("tool_call_completed")]
    assert refused.error_message == "the session had its 2 tool calls"


def test_the_user_is_asked_each_time_another_part_is_used() -> None:
    world = spoken_to(tokens=1000, ask_percent=40)
    taken = []
    for _ in range(2):
        taken.append(steps(world))
        assert question(world).budget.budget == "turn.tokens"
        world.say("Go on", option_ids=["extend"])
    assert taken == [4, 4]
    assert steps(world) == 2
    assert world.log[-1].turn_finished.state == FAILED, "the limit itself is no matter of consent"


def test_the_question_says_how_much_is_used() -> None:
    world = spoken_to(cost_micros=2_000_000, tokens=200, ask_percent=50)
    steps(world)
    asked = question(world)
    assert asked.text == "This turn has used 100 of its 200 tokens. Go on?"
    assert [option.option_id for option in asked.options] == ["extend", "stop"]
    assert (asked.budget.used, asked.budget.limit) == (100, 200)
    assert world.state.turn is not None
    assert world.state.turn.state == v1.TURN_STATE_WAITING_FOR_USER


def test_who_does_not_want_to_go_on_ends_the_turn() -> None:
    world = spoken_to(tokens=1000, ask_percent=10)
    steps(world)
    finished = world.say("Go on", option_ids=["stop"])[-1].turn_finished
    assert (finished.state, finished.error.reason) == (FAILED, "TURN_BUDGET_EXCEEDED")
    assert finished.error.message == "the user chose to stop when asked whether to go on"
    assert finished.error.metadata["budget"] == "turn.tokens"


def test_models_hear_what_the_user_says_and_not_what_they_choose() -> None:
    world = spoken_to(tokens=1000, ask_percent=10)
    steps(world)
    heard = len(world.state.transcript)
    world.say("Go on", option_ids=["extend"])
    assert len(world.state.transcript) == heard
    steps(world)
    world.say("yes, but hurry")
    assert isinstance(world.state.transcript[-1], Said)
    assert isinstance(next_effect(world.state), TakeStep)


def test_consent_for_a_session_lasts_over_its_turns_and_a_refusal_does_not() -> None:
    world = spoken_to(session_tokens=1000, ask_percent=20)
    world.answer(text="one")
    world.say()
    world.answer(text="two")
    world.say()
    assert question(world).budget.budget == "session.tokens"
    world.say("Go on", option_ids=["stop"])
    world.say()
    assert question(world).budget.used == 200
    world.say("Go on", option_ids=["extend"])
    world.answer(text="three")
    world.say()
    assert isinstance(next_effect(world.state), TakeStep)


def test_other_answers_than_those_offered_are_refused() -> None:
    world = spoken_to(tokens=1000, ask_percent=10)
    steps(world)
    with pytest.raises(CallerError, match="choose from extend, stop"):
        world.say("Go on", option_ids=["perhaps"])


def test_a_turn_that_waits_for_its_user_can_be_cancelled() -> None:
    world = spoken_to(tokens=1000, ask_percent=10)
    steps(world)
    assert world.cancel()[-1].turn_finished.state == v1.TURN_STATE_CANCELLED
