"""A recorded log says why everything happened, and whether it would happen again."""

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from agent_runtime import v1
from agent_runtime_server.engine import settle, steps
from agent_runtime_server.engine.budget import NO_CALLS_TODAY
from agent_runtime_server.engine.limits import Limits
from agent_runtime_server.engine.reasons import why
from agent_runtime_server.engine.replay import Difference, Replay
from agent_runtime_server.engine.state import State
from agent_runtime_server.engine.turn import apply

from .test_history import Chaos
from .world import World

WRITE = ("write_file", {"path": "a.py", "content": "x"})
READ = ("read_file", {"path": "a.py"})


def copied(log: list[v1.SessionEvent]) -> list[v1.SessionEvent]:
    return [v1.SessionEvent.FromString(event.SerializeToString()) for event in log]


def differences(world: World, log: list[v1.SessionEvent]) -> list[Difference]:
    steps_of_log = list(Replay(copied(log), world.agents))
    assert [event.seq for step in steps_of_log for event in step.events] == [event.seq for event in log]
    return [step.difference for step in steps_of_log if step.difference is not None]


def some_history(seed: int, moves: int = 80) -> Chaos:
    chaos = Chaos(seed)
    for _ in range(moves):
        chaos.act()
    if seed % 2:
        chaos.end()
    return chaos


def a_whole_turn() -> World:
    world = World()
    world.say()
    run(world, world.answer(READ, WRITE))
    run(world, world.decide())
    world.answer(text="done")
    return world


def run(world: World, events: list[v1.SessionEvent]) -> list[v1.SessionEvent]:
    """Let the client run what was dispatched."""
    return [event for call_id in world.dispatched(events) for event in world.result(call_id)]


@pytest.mark.timeout(300)
@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_every_history_comes_out_the_same_again(seed: int) -> None:
    chaos = some_history(seed)
    assert differences(chaos.world, chaos.world.log) == []


INNER = ["turn_started", "approval_requested", "tool_call_dispatched", "question_asked", "steering_seen"]


def decisions(events: list[v1.SessionEvent]) -> list[int]:
    """Find what only the engine can have decided, and upon something else."""
    return [index for index, event in enumerate(events) if event.WhichOneof("payload") in INNER]


def forge(events: list[v1.SessionEvent], chance: Random) -> None:
    """Change a decision."""
    events[chance.choice(decisions(events))].actor.subject = "mallory"


def drop(events: list[v1.SessionEvent], chance: Random) -> None:
    """Take anything but the last event away."""
    del events[chance.randrange(len(events) - 1)]


def drop_and_renumber(events: list[v1.SessionEvent], chance: Random) -> None:
    """Take a decision away and hide the gap."""
    del events[chance.choice(decisions(events))]
    renumber(events)


def swap(events: list[v1.SessionEvent], chance: Random) -> None:
    """Exchange a decision with what stands before it, and hide that."""
    index = chance.choice(decisions(events))
    events[index - 1 : index + 1] = [events[index], events[index - 1]]
    renumber(events)


def renumber(events: list[v1.SessionEvent]) -> None:
    for seq, event in enumerate(events, start=1):
        event.seq = seq


@pytest.mark.parametrize("tamper", [forge, drop, drop_and_renumber, swap])
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_history_that_was_tampered_with_is_found_out(
    tamper: Callable[[list[v1.SessionEvent], Random], None], seed: int
) -> None:
    world = some_history(seed, moves=40).world
    log = copied(world.log)
    assume(decisions(log))
    tamper(log, Random(seed))
    assert differences(world, log)


def test_a_difference_shows_both_sides() -> None:
    world = a_whole_turn()
    log = copied(world.log)
    asked = next(event for event in log if event.HasField("approval_requested"))
    asked.approval_requested.approval.policy_rules[:] = ["write tools are fine"]
    difference = differences(world, log)[0]
    assert difference.seq == asked.seq
    assert difference.recorded == asked
    assert difference.replayed is not None
    assert difference.replayed.approval_requested.approval.policy_rules == ["write tools ask"]
    assert difference.fields == [
        ("approval_requested.approval.policy_rules", "['write tools are fine']", "['write tools ask']")
    ]


def test_a_decision_that_policy_does_not_make_any_more_is_a_difference() -> None:
    world = a_whole_turn()
    log = copied(world.log)
    approval = next(event for event in log if event.HasField("approval_requested"))
    log.remove(approval)
    renumber(log)
    first = differences(world, log)[0]
    assert first.recorded is not None
    assert not first.recorded.HasField("approval_requested")
    assert first.replayed is not None
    assert first.replayed.HasField("approval_requested")


def test_the_limits_of_a_turn_are_those_it_began_with() -> None:
    world = World(limits=Limits(turn_steps=2, turn_seconds=60, approval_seconds=7, call_seconds=5))
    world.say()
    world.limits = Limits()  # the settings have changed meanwhile
    run(world, world.answer(READ))
    events = run(world, world.answer(READ))
    assert events[-1].turn_finished.error.reason == "TURN_BUDGET_EXCEEDED"
    assert differences(world, world.log) == []


def test_what_a_model_wrote_that_no_log_keeps_is_not_missed() -> None:
    world = World()
    world.say()
    world.answer(("read_file", "{"), ("read file", {"path": "a.py"}), ("read_file", "[]"))
    assert differences(world, world.log) == []


def test_what_a_day_did_not_allow_is_taken_from_the_recording() -> None:
    world = World()
    world.say()
    run(world, world.answer(READ, WRITE, READ, refused=dict.fromkeys((1, 2), f"the tenant {NO_CALLS_TODAY}")))
    world.answer(text="done")
    assert differences(world, world.log) == []


def test_a_fork_in_the_middle_of_a_transaction_is_none() -> None:
    world = a_whole_turn()
    for at in range(2, len(world.log)):
        fork = World()
        fork.log, fork.state, fork.nanos = copied(world.log[:at]), State("s1"), world.nanos
        for event in fork.log:
            apply(fork.state, event)
        fork.commit(lambda draft: settle.fork(draft, v1.SessionForked(from_session_id="s1"), v1.Actor()))
        fork.say()
        assert differences(fork, fork.log) == []


def test_claims_move_revisions_and_are_no_difference() -> None:
    world = World()
    world.say()
    world.answer(WRITE)
    world.decide()
    log = copied(world.log)
    resolved = next(event for event in log if event.HasField("approval_resolved"))
    resolved.approval_resolved.approval.revision += 2
    assert differences(world, log) == []


def reasons(world: World) -> dict[str, str]:
    replay = Replay(world.log, world.agents)
    return {
        event.WhichOneof("payload") or "": why(event, replay.state, world.agents)
        for step in replay
        for event in step.events
    }


def test_every_decision_has_its_reason() -> None:
    found = reasons(a_whole_turn())
    assert found["turn_started"].endswith("bounded by 1800 s, 50 steps, 5 handoffs")
    assert found["routing_decided"] == "the session's agent goes on"
    assert found["approval_requested"].startswith("policy: write tools ask; expired when nobody decides at 1970-")
    assert found["approval_resolved"] == "user decided"
    assert found["tool_call_completed"] == "c1 says so"
    assert found["turn_finished"] == "the answer asks for nothing more"


def test_a_call_that_was_not_asked_about_names_the_rule() -> None:
    world = World()
    world.say()
    world.answer(READ)
    assert reasons(world)["tool_call_dispatched"].startswith("policy: read-only tools run at once; its result is due")


def test_a_passed_deadline_is_told_from_a_decision() -> None:
    world = World(limits=Limits(approval_seconds=5))
    world.say()
    world.answer(WRITE)
    world.wait(5)
    found = reasons(world)
    assert found["approval_resolved"].startswith("nobody decided before 1970-01-01T00:00:06Z")
    assert found["tool_call_completed"] == "nobody decided in time, so the call was not run"


def test_a_failed_turn_says_what_failed() -> None:
    world = World(limits=Limits(turn_seconds=5))
    world.say()
    world.wait(5)
    assert reasons(world)["turn_finished"].startswith("TURN_TIMEOUT: ")


def test_the_take_over_of_a_turn_says_what_it_voids() -> None:
    world = World()
    world.say()
    world.commit(lambda draft: steps.recovered(draft, v1.TurnRecovered.CAUSE_OWNER_LOST))
    assert reasons(world)["turn_recovered"] == "owner lost; what attempt 1 streamed is void"
