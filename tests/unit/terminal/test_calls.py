"""Calls and their results in words."""

from agent_runtime import v1
from agent_runtime_client.terminal import calls
from terminalkit.messages import call


def test_a_call_is_named_with_its_main_argument() -> None:
    assert calls.call_line(call("read_file", path="calc.py")) == "read_file calc.py"
    assert calls.call_line(call("execute_command", command="make test")) == "execute_command $ make test"
    assert calls.call_line(call("search_in_code", query="foo", path="src")) == 'search_in_code "foo" in src'
    assert calls.call_line(call("deploy", env="prod")) == 'deploy {"env": "prod"}'


def test_a_command_of_several_lines_is_one_line() -> None:
    assert calls.call_line(call("execute_command", command="a\nb\x1b[2J")) == "execute_command $ a b"


def test_arguments_for_deciding_are_complete() -> None:
    shown = calls.argument_lines(call("deploy", env="prod\x1b[8m", steps=[1, 2], note="a\nb"))
    assert shown == ("env: prod\\x1b[8m", "steps: [1, 2]", "note: a", "  b")


def test_arguments_that_name_a_key_twice_are_shown_as_they_stand() -> None:
    twice = v1.ToolCall(tool_name="write_file", arguments_json='{"path": "a", "path": "/etc/passwd"}')
    assert calls.arguments(twice) is None
    assert calls.argument_lines(twice) == ('{"path": "a", "path": "/etc/passwd"}',)


def test_arguments_that_are_no_object_do_no_harm() -> None:
    for text in ("[1]", "nonsense", "", "[" * 100_000):
        broken = v1.ToolCall(tool_name="read_file", arguments_json=text)
        assert calls.arguments(broken) is None
        assert calls.call_line(broken) == "read_file"


def test_results_are_summed_up() -> None:
    read = call("read_file", path="a")
    succeeded = v1.ToolResult.STATUS_SUCCEEDED
    two_lines = v1.ToolResult(status=succeeded, content=[v1.Part(text="1\n2")])
    assert calls.result_summary(read, two_lines) == "2 lines"
    one_line = v1.ToolResult(status=succeeded, content=[v1.Part(text="wrote 3 bytes")])
    assert calls.result_summary(read, one_line) == "wrote 3 bytes"
    failed = v1.ToolResult(status=v1.ToolResult.STATUS_FAILED, error_message="no such file")
    assert calls.result_summary(read, failed) == "failed: no such file"
    unknown = v1.ToolResult(status=v1.ToolResult.STATUS_OUTCOME_UNKNOWN)
    assert calls.result_summary(read, unknown) == "outcome unknown"
    cached = v1.ToolResult(status=succeeded, content=[v1.Part(text="x")], source=v1.ToolResult.SOURCE_CACHE)
    assert calls.result_summary(read, cached) == "x, from the cache"


def test_parts_that_are_no_text_have_a_placeholder() -> None:
    parts = [v1.Part(text="see"), v1.Part(data=b"123", media_type="image/png"), v1.Part()]
    assert calls.parts_text(parts) == "see\n[image/png, 3 bytes]\n[unknown content]"


def test_a_status_of_a_newer_server_is_shown() -> None:
    result = v1.ToolResult()
    result.status = 77  # type: ignore[assignment]
    assert calls.outcome(result)[2] == "unknown outcome"
