"""What of a message being written is shown, whatever arrives."""

from hypothesis import given
from hypothesis import strategies as st

from agent_runtime import v1
from agent_runtime_client.deltas import Deltas
from clientkit.events import event

TEXT = v1.MessageDelta.CHANNEL_TEXT


def delta(index: int, text: str, *, attempt: int = 1, replace: bool = False) -> v1.MessageDelta:
    return v1.MessageDelta(
        turn_id="t", message_id="m", attempt=attempt, channel=TEXT, index=index, text=text, replace=replace
    )


class Screen:
    """Shows deltas as an application would."""

    def __init__(self) -> None:
        self.deltas = Deltas()
        self.text = ""

    def take(self, *arrived: v1.MessageDelta) -> str:
        for one in arrived:
            told = self.deltas.on_delta(one)
            if told is not None:
                self.text = told.text if told.replace else self.text + told.text
        return self.text


def test_pieces_are_joined_in_order() -> None:
    assert Screen().take(delta(0, "a"), delta(1, "b")) == "ab"


def test_a_repeated_piece_is_shown_once() -> None:
    assert Screen().take(delta(0, "a"), delta(0, "a"), delta(1, "b"), delta(0, "a")) == "ab"


def test_after_a_gap_the_text_stays_until_a_snapshot_mends_it() -> None:
    screen = Screen()
    assert screen.take(delta(0, "a"), delta(2, "c"), delta(3, "d")) == "a"
    assert screen.take(delta(3, "abcd", replace=True), delta(4, "e")) == "abcde"


def test_joining_in_the_middle_waits_for_a_snapshot() -> None:
    screen = Screen()
    assert screen.take(delta(5, "f")) == ""
    assert screen.take(delta(6, "abcdefg", replace=True), delta(7, "h")) == "abcdefgh"


def test_a_snapshot_older_than_what_is_shown_is_dropped() -> None:
    assert Screen().take(delta(0, "a"), delta(1, "b"), delta(0, "a", replace=True)) == "ab"


def test_a_higher_attempt_starts_over_and_a_lower_one_is_void() -> None:
    screen = Screen()
    assert screen.take(delta(0, "old"), delta(0, "new", attempt=2), delta(1, "old")) == "new"


def test_a_higher_attempt_that_begins_in_the_middle_clears_the_text() -> None:
    assert Screen().take(delta(0, "old"), delta(3, "w", attempt=2)) == ""


def test_a_recovered_turn_voids_what_is_still_on_its_way() -> None:
    screen = Screen()
    screen.deltas.on_event(event(5, turn_id="t", turn_recovered=v1.TurnRecovered(attempt=2)))
    assert screen.take(delta(0, "old")) == ""
    assert screen.take(delta(0, "new", attempt=2)) == "new"


def test_a_complete_message_ends_its_deltas() -> None:
    screen = Screen()
    screen.take(delta(0, "a"))
    screen.deltas.on_event(event(5, turn_id="t", assistant_message=v1.AssistantMessage(message_id="m")))
    assert screen.take(delta(1, "b"), delta(1, "ab", replace=True)) == "a"


def test_channels_do_not_mix() -> None:
    screen = Screen()
    reasoning = delta(0, "hm")
    reasoning.channel = v1.MessageDelta.CHANNEL_REASONING
    assert screen.take(delta(0, "a"), reasoning, delta(1, "b")) == "ahmb"


@given(
    chunks=st.lists(st.text("xyz", min_size=1, max_size=3), min_size=1, max_size=8),
    arrivals=st.lists(st.tuples(st.integers(0, 7), st.booleans()), max_size=30),
)
def test_what_is_shown_is_always_a_beginning_of_the_message_and_never_shrinks(
    chunks: list[str], arrivals: list[tuple[int, bool]]
) -> None:
    screen, beginnings = Screen(), ["".join(chunks[:count]) for count in range(len(chunks) + 1)]
    before = ""
    for wanted, snapshot in arrivals:
        index = wanted % len(chunks)
        text = beginnings[index + 1] if snapshot else chunks[index]
        shown = screen.take(delta(index, text, replace=snapshot))
        assert shown in beginnings
        assert len(shown) >= len(before)
        before = shown
