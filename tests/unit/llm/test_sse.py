"""Server-sent events out of raw bytes."""

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_runtime_server.llm.sse import SseOverflow, SseParser

DATA = st.text(st.characters(codec="utf-8", exclude_characters="\n\r"), max_size=30)


def parsed(stream: bytes, cuts: list[int]) -> list[bytes]:
    parser, events, start = SseParser(), [], 0
    for cut in [*sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]:
        events += parser.feed(stream[start:cut])
        start = cut
    return events + parser.finish()


@given(st.lists(DATA, min_size=1), st.sampled_from(["\n", "\r\n"]), st.lists(st.integers(0, 10_000)))
def test_any_cutting_gives_the_same_events(datas: list[str], ending: str, cuts: list[int]) -> None:
    stream = "".join(f": a comment{ending}event: x{ending}data: {data}{ending}{ending}" for data in datas).encode()
    assert parsed(stream, cuts) == [data.encode() for data in datas]


@given(st.binary(max_size=200), st.lists(st.integers(0, 10_000)))
def test_bytes_that_are_no_stream_do_no_harm_however_they_are_cut(stream: bytes, cuts: list[int]) -> None:
    assert parsed(stream, cuts) == parsed(stream, [])


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b"data:a\n\n", [b"a"]),
        (b"data:  a\n\n", [b" a"]),
        (b"data\n\n", [b""]),
        (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
        (b": only a comment\n\n\n\n", []),
        (b"id: 1\nretry: 5\nevent: e\ndata: a\n\n", [b"a"]),
        (b"data: a\rb\n\n", [b"a\rb"]),
        ("data: a\u2028b\u0085c\n\n".encode(), ["a\u2028b\u0085c".encode()]),
        (b"data: a\n\ndata: the end without a blank line", [b"a", b"the end without a blank line"]),
    ],
)
def test_the_rules_of_lines_and_fields(stream: bytes, events: list[bytes]) -> None:
    assert parsed(stream, []) == events


def test_a_line_without_end_is_given_up() -> None:
    parser = SseParser(longest_line=1000)
    with pytest.raises(SseOverflow, match="line"):
        deque(map(parser.feed, [b"x" * 100] * 20))
    with pytest.raises(SseOverflow, match="line"):
        SseParser(longest_line=1000).feed(b": " + b"x" * 1000 + b"\n\n")


def test_an_event_without_end_is_given_up() -> None:
    parser = SseParser(longest_event=1000)
    with pytest.raises(SseOverflow, match="event"):
        deque(map(parser.feed, [b"data: " + b"x" * 100 + b"\n"] * 20))


def test_an_event_of_the_longest_length_passes() -> None:
    assert SseParser(longest_line=20, longest_event=10).feed(b"data: 0123456789\n\n") == [b"0123456789"]
