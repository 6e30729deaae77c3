"""Text is shown at once when it begins, then once a window, and can be told so far at any time."""

import asyncio
from collections.abc import Callable, Iterator

import pytest

from agent_runtime import v1
from agent_runtime_server.engine.deltas import Writing
from agent_runtime_server.engine.turn import TakeStep
from agent_runtime_server.llm.base import Channel, Delta
from enginekit.turns import DialLoop, turns

from .world import World

WINDOW = 0.5


class Desk:
    """A message being written, what was shown of it, and the time on the dial."""

    def __init__(self, window: float = WINDOW) -> None:
        self.shown: list[v1.MessageDelta] = []
        self.loop = DialLoop()
        self.writing = Writing(TakeStep("turn-1", 0, 2), World().new_id, self.show, window)

    def show(self, *deltas: v1.MessageDelta) -> None:
        self.shown.extend(deltas)

    def write(self, *deltas: Delta) -> None:
        async def write() -> None:
            self.writing(deltas)

        self.loop.run_until_complete(write())

    def say(self, text: str) -> None:
        self.write(Delta(Channel.TEXT, text))

    def wait(self, seconds: float) -> None:
        self.loop.now += seconds
        self.loop.run_until_complete(turns(3))

    def texts(self) -> list[str]:
        return [delta.text for delta in self.shown]


@pytest.fixture
def desks() -> Iterator[Callable[..., Desk]]:
    made: list[Desk] = []

    def make(window: float = WINDOW) -> Desk:
        made.append(Desk(window))
        return made[-1]

    yield make
    for desk in made:
        desk.loop.close()


@pytest.fixture
def desk(desks: Callable[..., Desk]) -> Desk:
    return desks()


def test_the_first_text_is_shown_at_once(desk: Desk) -> None:
    desk.say("Hel")
    assert desk.texts() == ["Hel"]
    [delta] = desk.shown
    assert (delta.turn_id, delta.message_id, delta.attempt) == ("turn-1", desk.writing.message_id, 2)
    assert (delta.index, delta.replace) == (0, False)


def test_what_follows_gathers_for_a_window(desk: Desk) -> None:
    desk.say("Hel")
    desk.say("lo")
    desk.say(", you")
    assert desk.texts() == ["Hel"]
    desk.wait(WINDOW)
    assert desk.texts() == ["Hel", "lo, you"]
    assert [delta.index for delta in desk.shown] == [0, 1]


def test_each_window_follows_the_one_before(desk: Desk) -> None:
    for text in ("a", "b", "c"):
        desk.say(text)
        desk.wait(WINDOW)
    assert desk.texts() == ["a", "b", "c"]


def test_after_a_silent_window_text_is_shown_at_once_again(desk: Desk) -> None:
    desk.say("a")
    desk.wait(WINDOW)
    desk.say("b")
    assert desk.texts() == ["a", "b"]


def test_without_a_window_nothing_gathers_not_even_what_came_together(desks: Callable[..., Desk]) -> None:
    desk = desks(window=0)
    desk.say("a")
    desk.write(Delta(Channel.TEXT, "b"), Delta(Channel.TEXT, "c"))
    assert desk.texts() == ["a", "b", "c"]


def test_the_end_is_flushed(desk: Desk) -> None:
    desk.say("a")
    desk.say("b")
    desk.writing.flush()
    desk.writing.flush()
    desk.writing.close()
    desk.wait(WINDOW)
    assert desk.texts() == ["a", "b"]


def test_what_gathers_when_a_step_is_abandoned_is_not_shown(desk: Desk) -> None:
    desk.say("a")
    desk.say("b")
    desk.writing.close()
    desk.writing.close()
    desk.wait(WINDOW)
    assert desk.texts() == ["a"]


def test_channels_and_calls_are_counted_apart(desk: Desk) -> None:
    desk.write(
        Delta(Channel.REASONING, "hmm"),
        Delta(Channel.TEXT, "I read"),
        Delta(Channel.TOOL_ARGUMENTS, '{"path"', call_index=0),
        Delta(Channel.TOOL_ARGUMENTS, "{}", call_index=1),
    )
    desk.write(Delta(Channel.TOOL_ARGUMENTS, ': "a"}', call_index=0))
    desk.wait(WINDOW)
    first, second = desk.writing.call_id(0), desk.writing.call_id(1)
    arguments = v1.MessageDelta.CHANNEL_TOOL_ARGUMENTS
    assert [(delta.channel, delta.call_id, delta.index) for delta in desk.shown] == [
        (v1.MessageDelta.CHANNEL_REASONING, "", 0),
        (v1.MessageDelta.CHANNEL_TEXT, "", 0),
        (arguments, first, 0),
        (arguments, second, 0),
        (arguments, first, 1),
    ]


def test_the_text_so_far_is_told_as_replacing_deltas_that_go_on_counting(desk: Desk) -> None:
    assert [*desk.writing.so_far()] == []
    desk.say("Hel")
    desk.say("lo")
    desk.wait(WINDOW)
    desk.say("!")
    for _ in range(2):
        [delta] = desk.writing.so_far()
        assert (delta.text, delta.index, delta.replace) == ("Hello", 1, True)
    desk.wait(WINDOW)
    assert (desk.shown[-1].text, desk.shown[-1].index) == ("!", 2)


def test_text_that_was_not_shown_yet_is_not_told(desk: Desk) -> None:
    desk.say("a")
    desk.write(Delta(Channel.REASONING, "b"))
    assert [delta.channel for delta in desk.writing.so_far()] == [v1.MessageDelta.CHANNEL_TEXT]


async def test_it_runs_on_any_loop() -> None:
    shown: list[v1.MessageDelta] = []
    done = asyncio.Event()

    def show(*deltas: v1.MessageDelta) -> None:
        shown.extend(deltas)
        if len(shown) == 2:
            done.set()

    writing = Writing(TakeStep("turn-1", 0, 1), World().new_id, show, 0.001)
    writing([Delta(Channel.TEXT, "a")])
    writing([Delta(Channel.TEXT, "b")])
    await done.wait()
    writing.close()
