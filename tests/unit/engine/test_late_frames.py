"""Frames that come when what they are about is over, or has not begun."""

from agent_runtime import v1
from agent_runtime_server.engine import frames, settle
from agent_runtime_server.engine.turn import TakeStep, next_effect
from enginekit.refusals import refused

from .world import SECOND, World

WRITE = ("write_file", {"path": "a.txt", "content": "x"})


def test_a_decision_that_comes_after_the_expiry_and_before_the_sweeper_is_too_late() -> None:
    world = World()
    world.say()
    world.answer(WRITE)
    world.nanos += int(world.limits.approval_seconds * SECOND)
    with refused("APPROVAL_ALREADY_RESOLVED", state="EXPIRED"):
        world.decide()
    assert "approval_resolved" in world.kinds(world.commit(settle.due))


def test_a_client_that_attaches_to_a_closed_session_leaves_its_log_alone() -> None:
    world = World()
    world.commit(lambda draft: settle.close(draft, "", v1.Actor()))
    assert world.commit(lambda draft: frames.attach(draft, world.sender(client_id="c2"), ())) == []


def test_an_agent_that_the_user_chooses_while_the_turn_is_routed_answers_it() -> None:
    world = World(agent_id="orchestrator")
    world.say()
    switch = v1.SwitchAgent(agent_id="coder")
    events = world.commit(lambda draft: frames.switch_agent(draft, world.sender(), switch))
    assert world.kinds(events) == ["agent_handoff", "routing_decided"]
    assert events[1].routing_decided.source == v1.ROUTING_SOURCE_EXPLICIT
    assert isinstance(next_effect(world.state), TakeStep)
    assert world.state.agent_id == "coder"
