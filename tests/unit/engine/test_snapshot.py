"""A state that was packed and unpacked is the state: whatever happens to it afterwards happens alike."""

from contextlib import ExitStack
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_runtime import v1
from agent_runtime_server.core import transcript
from agent_runtime_server.engine import turn
from agent_runtime_server.engine.snapshot import UnreadableError, pack, unpack
from agent_runtime_server.engine.state import State
from agent_runtime_server.engine.turn import apply, next_effect

from .test_history import Chaos, check_log, check_progress, check_transcript
from .world import World


@pytest.mark.untraced  # it would take three times as long, and reaches nothing new
@pytest.mark.timeout(300)
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_session_that_is_read_back_again_and_again_goes_the_same_way(seed: int) -> None:
    plain, packed = Chaos(seed), Chaos(seed)
    for _ in range(100):
        plain.act()
        packed.act()
        packed.world.state = unpack(pack(packed.world.state))
        assert packed.world.state == plain.world.state
        assert next_effect(packed.world.state) == next_effect(plain.world.state)
    assert packed.world.log == plain.world.log


@pytest.mark.timeout(300)
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_snapshot_of_a_prefix_and_the_rest_make_the_state(seed: int) -> None:
    chaos = Chaos(seed)
    for _ in range(100):
        chaos.act()
    log = chaos.world.log
    cut = Random(seed).randint(0, len(log))
    state = State("s1")
    for number, event in enumerate(log, start=1):
        apply(state, event)
        if number == cut:
            state = unpack(pack(state))
    assert state == chaos.world.state
    assert pack(state) == pack(unpack(pack(state)))


@pytest.mark.untraced  # it would take three times as long, and reaches nothing new
@pytest.mark.timeout(300)
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_what_is_forgotten_leaves_a_history_that_is_valid(seed: int) -> None:
    with ExitStack() as bounds:
        patch = bounds.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(transcript, "MOST_ENTRIES", 4)
        patch.setattr(turn, "_MOST_FINISHED", 2)
        patch.setattr(turn, "_MOST_CALLS", 3)
        chaos = Chaos(seed)
        for _ in range(120):
            chaos.act()
            check_progress(chaos.world)
            check_transcript(chaos.world)
            chaos.world.state = unpack(pack(chaos.world.state))
        chaos.world.crash()
        check_log(chaos.world)


class TestForgetting:
    def test_whole_turns_go_oldest_first(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(transcript, "MOST_ENTRIES", 8)
        world = World()
        for number in range(5):
            world.say(f"turn {number}")
            world.answer(text=f"answer {number}")
        told = [entry.message.parts[0].text for entry in world.state.transcript if not hasattr(entry, "handoff")]
        assert told == ["turn 2", "answer 2", "turn 3", "answer 3", "turn 4", "answer 4"], "down to three quarters"

    def test_a_turn_that_is_too_large_alone_stays_while_it_is_the_last(self) -> None:
        world = World()
        world.say("x" * transcript.MOST_BYTES)
        world.answer(text="long")
        assert len(world.state.transcript) == 2
        world.say("short")
        world.answer(text="short too")
        assert len(world.state.transcript) == 2

    def test_the_running_turn_is_never_cut(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(transcript, "MOST_ENTRIES", 1)
        world = World()
        world.say()
        for _ in range(5):
            [call_id] = world.dispatched(world.answer(("read_file", {"path": "a.py"})))
            world.result(call_id)
        assert len(world.state.transcript) == 6

    def test_calls_and_turns_of_long_ago_are_not_known_any_more(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(turn, "_MOST_FINISHED", 1)
        monkeypatch.setattr(turn, "_MOST_CALLS", 1)
        world = World()
        for _ in range(3):
            world.say()
            [call_id] = world.dispatched(world.answer(("read_file", {"path": "a.py"})))
            world.result(call_id)
            world.answer(text="done")
        assert [*world.state.calls] == [call_id]
        assert len(world.state.finished) == 1


class TestReading:
    def test_a_state_of_before_a_field_was_added_gets_its_default(self) -> None:
        packed = pack(World().state).replace(b'"closed":false', b'"former":false')
        assert unpack(packed) == World().state

    @pytest.mark.parametrize("bytes_", [b"", b"\x00\x00\x00\x02{}", b"\xff" * 40, pack(State("s1"))[:-1]])
    def test_what_is_no_snapshot_is_told(self, bytes_: bytes) -> None:
        with pytest.raises(UnreadableError):
            unpack(bytes_)

    def test_a_message_that_stands_in_several_places_is_kept_once(self) -> None:
        world = World()
        world.commit(lambda draft: draft.add(v1.SessionEvent(tools_updated=v1.ToolsUpdated())))
        before = len(pack(world.state))
        world.say("x" * 10_000)
        assert len(pack(world.state)) - before < 15_000


def test_what_has_no_place_in_a_snapshot_is_not_packed() -> None:
    state = State("s1")
    state.agent_id = object()  # type: ignore[assignment]
    with pytest.raises(TypeError, match="a object cannot stand in a snapshot"):
        pack(state)
