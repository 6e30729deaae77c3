"""Scripts of the mock model."""

import json
from pathlib import Path

import pytest

from agent_runtime_server.mockllm.play import Call
from agent_runtime_server.mockllm.script import ScriptError, load_script, parse_script
from agent_runtime_server.mockllm.seen import BadRequest, Seen, read_request


def test_the_first_rule_that_matches_and_is_not_used_up_answers() -> None:
    script = parse_script(
        [
            {"match": {"last_user": "hello", "times": 1}, "answer": {"text": "once"}},
            {"match": {"last_user": "HELLO"}, "answer": {"text": "always"}},
        ]
    )
    said = [play.answer.text for _ in range(3) if (play := script.play(Seen(last_user="hello")))]
    assert said == ["once", "always", "always"]
    assert script.play(Seen(last_user="bye")) is None


@pytest.mark.parametrize(
    ("match", "seen", "matches"),
    [
        ({"has_tools": True}, Seen(tools=frozenset({"t"})), True),
        ({"has_tools": True}, Seen(), False),
        ({"has_tools": False}, Seen(), True),
        ({"tools": ["a", "b"]}, Seen(tools=frozenset({"a"})), False),
        (
            {"last_role": "tool", "tool_result": "exit code: 0"},
            Seen(last_role="tool", tool_result="exit code: 0"),
            True,
        ),
        ({"last_role": "tool"}, Seen(last_role="user"), False),
        ({"system": "coder", "model": "^m$"}, Seen(system="You are the coder", model="m"), True),
    ],
)
def test_every_part_of_a_match_has_to_fit(match: dict[str, object], seen: Seen, matches: bool) -> None:
    assert bool(parse_script([{"match": match}]).play(seen)) is matches


def test_groups_of_the_match_stand_in_answers_and_other_braces_stay() -> None:
    rule = {
        "match": {"last_user": "make (\\w+) of (?P<stuff>\\w+)"},
        "answer": {"text": "{1} {stuff} {7} {}", "tool_calls": [{"name": "t", "arguments": {"a": ["{1}"], "n": 1}}]},
    }
    play = parse_script([rule]).play(Seen(last_user="Make cake of flour"))
    assert play is not None
    assert play.answer.text == "cake flour {7} {}"
    assert play.answer.tool_calls == (Call("t", {"a": ["cake"], "n": 1}),)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ({}, "list of rules"),
        ([1], r"rules\[0\] must be an object"),
        ([{"matches": {}}], "unknown keys: matches"),
        ([{"match": {"last_user": "("}}], r"rules\[0\].match.last_user is not a regular expression"),
        ([{"match": {"times": -1}}], "times must be a whole number"),
        ([{"match": {"has_tools": 1}}], "has_tools must be true or false"),
        ([{"answer": {"text": 1}}], r"answer.text must be text"),
        ([{"answer": {"tool_calls": [{}]}}], r"tool_calls\[0\].name must be text"),
        ([{"pace": {"delay_ms": "x"}}], "delay_ms must be a number"),
        ([{"fault": {"kind": "explode"}}], "kind must be one of status, error, hang"),
        ([{"fault": {"kind": "status", "status": 99}}], "status must be an HTTP status"),
    ],
)
def test_what_is_wrong_with_a_script_is_said_by_its_place(script: object, words: str) -> None:
    with pytest.raises(ScriptError, match=words):
        parse_script(script)


def test_a_script_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ScriptError, match=r"none\.json"):
        load_script(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(ScriptError, match="not JSON"):
        load_script(tmp_path / "bad.json")
    (tmp_path / "good.json").write_text(json.dumps([{}]))
    assert len(load_script(tmp_path / "good.json").rules) == 1


CALL = {"role": "assistant", "tool_calls": [{"id": "c1", "function": {"name": "t", "arguments": "{}"}}]}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "r"}


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [1],
        [{"role": "user", "content": "a"}, CALL],
        [CALL, {"role": "user", "content": "a"}, RESULT],
        [RESULT],
        [CALL, RESULT, RESULT],
        [{"role": "robot", "content": "a"}],
    ],
)
def test_a_transcript_that_endpoints_refuse_is_refused(messages: list[object]) -> None:
    with pytest.raises(BadRequest):
        read_request({"model": "m", "messages": messages})


def test_the_calls_since_the_last_user_message_are_told_from_earlier_ones() -> None:
    user = {"role": "user", "content": [{"type": "text", "text": "go"}]}
    seen = read_request({"model": "m", "messages": [user, CALL, RESULT, user, CALL, RESULT]})
    assert (len(seen.calls), len(seen.fresh)) == (2, 1)
    assert (seen.last_user, seen.last_role, seen.tool_result, seen.fresh[0].result) == ("go", "tool", "r", "r")
