"""Text of others cannot play tricks on the terminal."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_runtime_client.terminal.text import clean, count, reveal, shorten


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\ntext", "plain\ntext"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b[2J\x1b[1;1Hgone", "gone"),
        ("a\x9b31mb", "a31mb"),
        ("bell\a and back\b\b", "bell and back"),
        ("safe\u202etxt.exe", "safetxt.exe"),
        ("one\rtwo\r\nthree", "one\ntwo\nthree"),
        ("tab\tbed", "tab    bed"),
        ("\ud800 alone", " alone"),
        ("naïve ✓ 漢字 👩‍💻", "naïve ✓ 漢字 👩‍💻"),
    ],
)
def test_what_a_terminal_would_obey_is_taken_out(text: str, shown: str) -> None:
    assert clean(text) == shown


@given(st.text(st.characters()))
def test_nothing_but_visible_signs_and_line_ends_is_left(text: str) -> None:
    left = {unicodedata.category(char) for char in clean(text) if char not in "\n\u200d"}
    assert not left & {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}


def test_who_must_decide_sees_what_would_be_hidden() -> None:
    assert reveal("rm -rf \x1b[8mx\u202e") == "rm -rf \\x1b[8mx\\u202e"
    assert reveal("a\r\nb\rc\ud800") == "a\\r\nb\\rc\\ud800"


@given(st.text(st.characters()))
def test_revealed_text_loses_nothing_visible_and_can_be_printed(text: str) -> None:
    shown = reveal(text)
    shown.encode()
    assert not any(unicodedata.category(char) in {"Cc", "Cf", "Cs"} for char in shown if char not in "\n\u200d")


def test_a_long_text_becomes_one_short_line() -> None:
    assert shorten("a\n  b   c", 10) == "a b c"
    assert shorten("0123456789", 5) == "0123…"


def test_counts_agree_with_their_noun() -> None:
    assert (count(1, "line"), count(0, "line"), count(1234, "token")) == ("1 line", "0 lines", "1,234 tokens")
