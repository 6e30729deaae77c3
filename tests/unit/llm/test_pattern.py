"""Chunks of which most differ in their text only are read as if each were looked at."""

import json
from collections.abc import Mapping, Sequence

import hypothesis.strategies as st
import orjson
import pytest
from hypothesis import given

from agent_runtime_server.core.errors import ModelUnavailable
from agent_runtime_server.llm.assembler import Assembler
from agent_runtime_server.llm.intake import Intake
from agent_runtime_server.llm.pattern import Pattern


def chunk(text: object, **more: object) -> dict[str, object]:
    return {
        "id": "1",
        "model": "m",
        "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}],
    } | more


def learnt(first: Mapping[str, object]) -> Pattern:
    pattern = Pattern()
    pattern.learn(orjson.dumps(first), first)
    return pattern


def texts(pattern: Pattern, *chunks: Mapping[str, object]) -> Sequence[str]:
    return pattern.texts([orjson.dumps(one) for one in chunks])


@given(st.text(min_size=1), st.lists(st.text()))
def test_after_one_chunk_the_texts_of_those_that_are_like_it_are_known(first: str, others: list[str]) -> None:
    pattern = learnt(chunk(first))
    if pattern.texts([orjson.dumps(chunk("x"))]):
        assert texts(pattern, *map(chunk, others)) == others


def test_what_is_known_begins_where_one_asks() -> None:
    chunks = [b"{}", *[orjson.dumps(chunk(text)) for text in "ab"], b"{}"]
    pattern = learnt(chunk("first"))
    assert [pattern.texts(chunks, start) for start in range(4)] == [[], ["a", "b"], ["b"], []]


def test_a_text_that_stands_elsewhere_too_teaches_nothing() -> None:
    assert texts(learnt(chunk("content")), chunk("x")) == []
    assert texts(learnt(chunk("id")), chunk("x")) == []


@pytest.mark.parametrize(
    "other",
    [
        chunk("b", usage={"completion_tokens": 3}),
        chunk("b", error={"message": "overloaded"}),
        chunk("b", id="2"),
        chunk(["in parts"]),
        chunk(None),
        {"choices": [{"index": 1, "delta": {"content": "of another choice"}}]},
        {"choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": "stop"}]},
    ],
)
def test_another_kind_of_chunk_ends_what_is_known(other: Mapping[str, object]) -> None:
    pattern = learnt(chunk("first"))
    assert texts(pattern, chunk("a"), chunk("c")) == ["a", "c"]
    assert texts(pattern, other, chunk("c")) == []


@pytest.mark.parametrize("middle", [b"", b'"a","b"', b'"a', b'"a","x":"b"', b"1", b'"a"}', b'\xff"'])
def test_what_is_no_text_between_the_known_parts_is_looked_at(middle: bytes) -> None:
    pattern = learnt(chunk("first"))
    before, behind = orjson.dumps(chunk("first")).split(b'"first"')
    assert pattern.texts([before + middle + behind]) == []


def test_an_endpoint_whose_chunks_all_differ_is_given_up() -> None:
    pattern = Pattern()
    for number in range(100):
        one = chunk("same", id=str(number))
        pattern.learn(orjson.dumps(one), one)
    assert texts(pattern, chunk("x", id="99")) == []


ODD = [
    {"choices": []},
    {"choices": [{"index": 1, "delta": {"content": "of another choice"}}]},
    {"choices": [{"delta": {"role": "assistant", "content": "y"}}]},
    {"choices": [{"delta": {"content": [{"text": "in parts"}]}}]},
    {"choices": [{"delta": "no delta"}]},
    {"choices": {"content": "no list"}},
    {"choices": [{"delta": {"content": "z"}}], "usage": {"completion_tokens": 3}},
    {"choices": [{"delta": {"reasoning": "hm"}}]},
    {"model": "other", "choices": [{"delta": {"content": ""}}]},
]
CHUNKS = st.lists(st.one_of(st.text(max_size=5).map(chunk), st.sampled_from(ODD)), max_size=20)


@given(CHUNKS, st.sets(st.integers(0, 20)), st.booleans())
def test_a_stream_makes_the_answer_that_its_chunks_make_one_by_one(
    chunks: list[dict[str, object]], reads: set[int], ascii_only: bool
) -> None:
    intake, one_by_one = Intake(), Assembler()
    whole = [chunk("begun"), *chunks, {"choices": [{"delta": {}, "finish_reason": "stop"}]}]
    waiting = b""
    for number, one in enumerate(whole):
        one_by_one.add(one)
        waiting += b"data: " + json.dumps(one, ensure_ascii=ascii_only).encode(errors="replace") + b"\n\n"
        if number in reads:
            intake.feed(waiting)
            waiting = b""
    intake.feed(waiting + b"data: [DONE]\n\n")
    assert intake.answer("m") == one_by_one.answer("m")


def test_an_error_behind_texts_that_are_known_is_raised() -> None:
    stream = b"".join(b"data: " + orjson.dumps(chunk(text)) + b"\n\n" for text in "abc")
    with pytest.raises(ModelUnavailable, match="overloaded"):
        Intake().feed(stream + b'data: {"error": {"message": "overloaded"}}\n\n')
