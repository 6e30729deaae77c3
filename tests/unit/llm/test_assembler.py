"""Answers put together from chunks as real endpoints send them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_runtime_server.core.errors import ModelRejected, ModelUnavailable
from agent_runtime_server.llm.assembler import Assembler
from agent_runtime_server.llm.base import Channel, Delta, ModelAnswer, RequestedCall


def delta(**fields: object) -> dict[str, object]:
    return {"choices": [{"index": 0, "delta": fields}]}


def piece(arguments: str = "", **fields: object) -> dict[str, object]:
    name = fields.pop("name", None)
    return {**fields, "function": {"arguments": arguments} | ({"name": name} if name is not None else {})}


def answer_of(*chunks: object) -> ModelAnswer:
    assembler = Assembler()
    for chunk in chunks:
        assembler.add(chunk)
    return assembler.answer("asked")


def calls_of(*pieces: dict[str, object]) -> tuple[RequestedCall, ...]:
    return answer_of(*(delta(tool_calls=[one]) for one in pieces)).calls


def test_text_reasoning_usage_and_reason_are_kept() -> None:
    answer = answer_of(
        {"model": "m-1", "choices": [{"index": 0, "delta": {"role": "assistant"}, "finish_reason": None}]},
        delta(reasoning_content="think"),
        delta(content="Hel"),
        delta(content="lo"),
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]},
        {
            "choices": [],
            "usage": {
                "prompt_tokens": 9, "completion_tokens": 4,
                "prompt_tokens_details": {"cached_tokens": 5}, "completion_tokens_details": {"reasoning_tokens": 1},
            },
        },
    )  # fmt: skip
    assert (answer.text, answer.reasoning, answer.finish_reason, answer.model) == ("Hello", "think", "length", "m-1")
    usage = answer.usage
    assert (usage.input_tokens, usage.output_tokens, usage.cached_input_tokens) == (9, 4, 5)
    assert (usage.reasoning_tokens, usage.model_calls) == (1, 1)


def test_keys_left_out_and_an_empty_delta_beside_the_usage_are_borne() -> None:
    answer = answer_of(
        delta(content="hi"),
        {"choices": [{"index": 0, "delta": {}}], "usage": {"prompt_tokens": 3, "completion_tokens": 1, "cost": 0.1}},
    )
    assert (answer.text, answer.finish_reason, answer.model) == ("hi", "stop", "asked")
    assert answer.usage.input_tokens == 3


@pytest.mark.parametrize("usage", [None, "x", {"prompt_tokens": -1}, {"prompt_tokens": None}, {"prompt_tokens": "3"}])
def test_usage_that_makes_no_sense_counts_nothing(usage: object) -> None:
    assert answer_of(delta(content="a"), {"usage": usage}).usage.input_tokens == 0


def test_interleaved_calls_are_kept_apart_by_their_index() -> None:
    assert calls_of(
        piece("", index=0, id="a", name="read_file"),
        piece("", index=1, id="b", name="list_files"),
        piece('{"path"', index=0),
        piece("{}", index=1),
        piece(':"x"}', index=0),
    ) == (RequestedCall("read_file", '{"path":"x"}'), RequestedCall("list_files", "{}"))


def test_ids_names_and_types_repeated_in_every_piece_change_nothing() -> None:
    repeated = {"index": 0, "id": "a", "name": "read_file", "type": "function"}
    assert calls_of(piece('{"a":', **repeated), piece("1}", **repeated)) == (RequestedCall("read_file", '{"a":1}'),)


def test_an_id_given_late_still_belongs_to_its_call() -> None:
    assert calls_of(piece("{", index=0, name="t"), piece("}", index=0, id="a", name="t")) == (RequestedCall("t", "{}"),)


def test_calls_of_their_own_id_under_one_index_are_several() -> None:
    calls = calls_of(piece("{}", index=0, id="a", name="one"), piece("{}", index=0, id="b", name="two"))
    assert [call.name for call in calls] == ["one", "two"]


def test_without_an_index_a_name_begins_a_call_and_the_rest_goes_on_with_it() -> None:
    calls = calls_of(piece("{", name="one"), piece("}"), piece("", id="b", name="two"), piece("{}", id="b"))
    assert calls == (RequestedCall("one", "{}"), RequestedCall("two", "{}"))


def test_a_whole_completion_is_understood() -> None:
    message = {
        "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
        "tool_calls": [piece("{}", id="1", name="x"), {"function": {"name": "y", "arguments": {"k": 1}}}],
    }
    answer = answer_of({"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]})
    assert answer.text == "ab"
    assert answer.calls == (RequestedCall("x", "{}"), RequestedCall("y", '{"k":1}'))


def test_a_call_without_arguments_has_an_empty_object_and_bad_ones_stay_as_they_are() -> None:
    assert calls_of(piece("", index=0, name="t")) == (RequestedCall("t", "{}"),)
    assert calls_of(piece('{"a', index=0, name="t")) == (RequestedCall("t", '{"a'),)


def test_pieces_of_one_read_that_follow_each_other_are_one_delta() -> None:
    assembler = Assembler()
    for chunk in (
        delta(content="a"), delta(content="b"), delta(reasoning="r"), delta(content="c"),
        delta(tool_calls=[piece("{", index=0, name="t")]), delta(tool_calls=[piece("}", index=0)]),
        delta(tool_calls=[piece("{}", index=1, name="u")]),
    ):  # fmt: skip
        assembler.add(chunk)
    assert assembler.take() == [
        Delta(Channel.TEXT, "ab"),
        Delta(Channel.REASONING, "r"),
        Delta(Channel.TEXT, "c"),
        Delta(Channel.TOOL_ARGUMENTS, "{}", 0, "t"),
        Delta(Channel.TOOL_ARGUMENTS, "{}", 1, "u"),
    ]
    assert assembler.take() == []


def test_pieces_stay_apart_where_each_is_to_be_shown_by_itself() -> None:
    assembler = Assembler(joins=False)
    assembler.add_texts(["a", "b"])
    assembler.add(delta(reasoning="r"))
    assert assembler.take() == [Delta(Channel.TEXT, "a"), Delta(Channel.TEXT, "b"), Delta(Channel.REASONING, "r")]
    assert assembler.answer("m").text == "ab"


PIECES = st.lists(st.tuples(st.integers(0, 3), st.text(max_size=5)), max_size=30)


@given(PIECES, st.sets(st.integers(0, 30)))
def test_the_deltas_add_up_to_the_answer(pieces: list[tuple[int, str]], reads: set[int]) -> None:
    assembler, deltas = Assembler(), []
    assembler.add(delta(content=""))
    for place, (index, text) in enumerate(pieces):
        assembler.add(delta(tool_calls=[piece(text, index=index, name=f"t{index}")]))
        if place in reads:
            deltas += assembler.take()
    deltas += assembler.take()
    calls = assembler.answer("m").calls
    for place, call in enumerate(calls):
        told = "".join(one.text for one in deltas if one.call_index == place)
        assert call.arguments_json == (told if told.strip() else "{}")
        assert {one.tool_name for one in deltas if one.call_index == place} == {call.name}


@pytest.mark.parametrize(
    ("chunk", "error"),
    [
        ([], ModelUnavailable),
        ("x", ModelUnavailable),
        ({"error": {"message": "overloaded", "code": "503"}}, ModelUnavailable),
        ({"error": {"message": "slow down", "code": 429}}, ModelUnavailable),
        ({"error": "went wrong"}, ModelUnavailable),
        ({"error": {"message": "too long", "code": "context_length_exceeded"}}, ModelRejected),
        ({"error": {"message": "bad", "code": 400}}, ModelRejected),
        ({"object": "error", "message": "bad", "type": "BadRequestError", "code": 400}, ModelRejected),
        ({"choices": [{"delta": {"tool_calls": [piece("{}", index=n, name="t") for n in range(257)]}}]}, ModelRejected),
    ],
)
def test_chunks_that_end_an_answer_with_an_error(chunk: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        Assembler().add(chunk)


@pytest.mark.parametrize(
    "chunk",
    [{"choices": None}, {"choices": [None]}, {"choices": [{"index": 1, "delta": {"content": "other"}}]},
     delta(tool_calls=[None]), delta(tool_calls={}), delta(tool_calls=[{"index": 0, "function": None}][:0]),
     delta(content=7), {"choices": [{"delta": None}]}, {}],
)  # fmt: skip
def test_shapes_that_say_nothing_are_passed_over(chunk: object) -> None:
    assert answer_of(delta(content="x"), chunk).text == "x"


def test_an_answer_grows_no_further_than_its_bound() -> None:
    assembler = Assembler(largest_answer=10)
    assembler.add(delta(content="0123456789"))
    with pytest.raises(ModelRejected, match="larger"):
        assembler.add(delta(reasoning="x"))


def test_an_answer_that_says_nothing_and_a_call_without_a_name_are_no_answers() -> None:
    with pytest.raises(ModelUnavailable):
        answer_of({"choices": []})
    with pytest.raises(ModelUnavailable, match="without naming"):
        calls_of(piece("{}", index=0))
