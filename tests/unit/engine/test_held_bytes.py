"""What a session holds while its turn runs is counted, and bounded."""

import json

import pytest

from agent_runtime import v1
from agent_runtime_server.core.errors import CallerError
from agent_runtime_server.core.transcript import Answered, HandedOff
from agent_runtime_server.engine.limits import Limits
from agent_runtime_server.engine.state import State

from .test_history import Chaos
from .test_replay import differences
from .world import World

MOST = 50_000
RESULT = v1.Part(text="x" * 9_000)


def content(state: State) -> int:
    """Return the size of everything that the transcript and the list of tools hold."""
    size = v1.ToolsUpdated(tools=state.tools).ByteSize()
    for entry in state.transcript:
        size += (entry.handoff if isinstance(entry, HandedOff) else entry.message).ByteSize()
        for called in entry.calls if isinstance(entry, Answered) else ():
            size += called.call.ByteSize() + (called.result.ByteSize() if called.result is not None else 0)
    return size


def bounded() -> World:
    world = World(limits=Limits(turn_bytes=MOST))
    world.say()
    return world


def read(world: World, count: int) -> list[v1.SessionEvent]:
    """Let the model read files, and bring what stands in them; returns what the last one led to."""
    events = world.answer(*[("read_file", {"path": f"{number}.py"}) for number in range(count)])
    for call_id in world.dispatched(events):
        events = world.result(call_id, content=[RESULT])
    return events


def test_a_running_turn_counts_as_it_grows_and_a_finished_one_as_what_is_remembered() -> None:
    world = World()
    world.say("x" * 1000)
    assert world.state.bytes == content(world.state) > 1000
    read(world, 3)
    assert world.state.bytes == content(world.state) > 28_000
    world.say("wait", delivery=v1.MESSAGE_DELIVERY_QUEUE)
    assert world.state.bytes > content(world.state), "what waits for its turn counts, too"
    world.crash()
    world.answer(text="y" * 1000)
    assert world.state.bytes == content(world.state)


def test_a_turn_that_holds_too_much_asks_no_model_any_more() -> None:
    world = bounded()
    for _ in range(3):
        events = world.answer(("read_file", {"path": "a.py"}), text="y" * 20_000)
        for call_id in world.dispatched(events):
            events = world.result(call_id)
    finished = events[-1].turn_finished
    assert (finished.state, finished.error.reason) == (v1.TURN_STATE_FAILED, "TURN_BUDGET_EXCEEDED")
    assert (finished.error.metadata["budget"], finished.error.metadata["limit"]) == ("turn.bytes", str(MOST))


def test_results_beyond_are_cut_and_say_how_much_there_was() -> None:
    world = bounded()
    read(world, 8)
    results = [event.tool_call_completed.result for event in world.log if event.HasField("tool_call_completed")]
    kept = [result for result in results if result.content]
    cut = [result for result in results if not result.content]
    assert (len(kept), len(cut)) == (5, 3)
    assert all(result.truncated and result.original_size_bytes > 9_000 for result in cut)
    assert world.state.bytes < MOST
    world.answer(text="done")
    assert differences(world, world.log) == []


def test_edited_arguments_count_and_must_fit() -> None:
    world = bounded()
    world.answer(("write_file", {"path": "a.py", "content": "x"}))
    before = world.state.bytes
    with pytest.raises(CallerError, match="holds too much"):
        world.decide(v1.APPROVAL_VERDICT_APPROVE_WITH_EDITS, edits=edit("y" * MOST))
    world.decide(v1.APPROVAL_VERDICT_APPROVE_WITH_EDITS, edits=edit("y" * 1000))
    assert world.state.bytes == content(world.state) > before + 900
    world.crash()


def edit(text: str) -> str:
    return json.dumps({"path": "a.py", "content": text})


def test_the_bound_holds_whatever_happens() -> None:
    for seed in range(10):
        chaos = Chaos(seed)
        chaos.world.limits = Limits(turn_bytes=3_000)
        for _ in range(80):
            chaos.act()
            turn = chaos.world.state.turn
            assert turn is None or turn.bytes < 3_000 + 2_000, "what one more answer brings"
