"""Streamed text becomes rows as wide as the terminal."""

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from agent_runtime_client.terminal.feed import Chunk, Voice
from agent_runtime_client.terminal.flow import CleanStream, Flow, wrap


def answer(text: str, key: str = "m1") -> Chunk:
    return Chunk(key, Voice.ANSWER, text)


def test_a_row_is_complete_at_its_line_end() -> None:
    flow = Flow()
    assert flow.push(answer("one\ntw"), 80)[0].plain == "one"
    assert flow.tail is not None
    assert flow.tail.plain == "tw"


def test_a_long_line_is_cut_at_a_space() -> None:
    assert wrap("the quick brown fox", 10) == ["the quick", "brown fox"]
    assert wrap("unbreakable", 4) == ["unbr", "eaka", "ble"]


def test_wide_characters_take_two_cells() -> None:
    assert wrap("漢字漢字", 4) == ["漢字", "漢字"]


@given(st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z", "M"])), st.integers(8, 40))
def test_no_row_is_too_wide_and_nothing_is_lost(text: str, width: int) -> None:
    rows = wrap(text, width)
    assert all(cell_len(row) <= width for row in rows)
    assert "".join(rows) == text


def test_another_message_ends_the_row() -> None:
    flow = Flow()
    flow.push(answer("half"), 80)
    assert [row.plain for row in flow.push(answer("new\n", "m2"), 80)] == ["half", "new"]


def test_command_output_has_a_gutter() -> None:
    assert Flow().push(Chunk("c1", Voice.OUTPUT, "ok\n"), 80)[0].plain == "  │ ok"


def test_an_escape_sequence_cut_in_two_is_still_recognised() -> None:
    stream = CleanStream()
    assert stream.push("a\x1b[3") + stream.push("1mb") == "ab"
    assert stream.push("x\r") + stream.push("\ny") == "x\ny"
