"""What is decided is what was shown."""

import json
from pathlib import Path

import pytest

from agent_runtime import v1
from agent_runtime_client.terminal import approvals, edit
from agent_runtime_client.terminal.approvals import Answer, Choice
from agent_runtime_client.terminal.deciding import Desk
from terminalkit.messages import approval, call


def view(tool_call: v1.ToolCall, workspace: Path | None = None, rows: int | None = approvals.ROWS) -> str:
    return approvals.approval_view(approval(tool_call), workspace, rows=rows).plain


def test_a_write_is_shown_as_a_diff_against_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("old\n")
    text = view(call("write_file", path="a.py", content="new\n", create_dirs=True), tmp_path)
    assert "Allow write_file a.py, +1 -1" in text
    assert "  -old\n  +new" in text
    assert "create_dirs: true" in text


def test_a_write_elsewhere_is_shown_whole() -> None:
    text = view(call("write_file", path="a.py", content="new\n"))
    assert "the whole file, 1 line" in text
    assert "  +new" in text


def test_a_command_is_shown_with_all_its_lines_and_nothing_hidden() -> None:
    text = view(call("execute_command", command="make\nrm -rf \x1b[8m/", cwd="src"))
    assert "  $ make\n    rm -rf \\x1b[8m/" in text
    assert "  cwd: src" in text


def test_any_other_call_shows_its_arguments() -> None:
    assert "  env: prod" in view(call("deploy", env="prod"))


def test_a_write_without_its_arguments_does_not_break() -> None:
    assert "Allow write_file" in view(call("write_file"))
    assert "path: 7" in view(call("write_file", path=7))


def test_a_long_diff_is_cut_and_says_so() -> None:
    long = call("write_file", path="a", content="x\n" * 500)
    assert "… 441 more lines; v shows all" in view(long)
    assert view(long, rows=None).count("+x") == 500


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        ("a", Answer(Choice.APPROVE)),
        ("Yes", Answer(Choice.APPROVE)),
        ("r", Answer(Choice.REJECT)),
        ("n not this file", Answer(Choice.REJECT, "not this file")),
        ("e", Answer(Choice.EDIT)),
        ("v", Answer(Choice.VIEW)),
        ("a little later", Answer(Choice.UNCLEAR)),
        ("yes please", Answer(Choice.UNCLEAR)),
        ("approve!", Answer(Choice.UNCLEAR)),
        ("", Answer(Choice.UNCLEAR)),
    ],
)
def test_only_a_plain_choice_decides(typed: str, answer: Answer) -> None:
    assert approvals.parse_answer(typed) == answer


def test_pending_approvals_are_decided_one_after_another() -> None:
    first, second = approval(call("a"), approval_id="1"), approval(call("b"), approval_id="2")
    desk = Desk(None)
    assert desk.choose({"1": first, "2": second}) is first
    assert desk.waiting == 1
    desk.answered(first)
    assert desk.choose({"1": first, "2": second}) is None
    assert desk.choose({"2": second}) is second


def test_an_approval_decided_elsewhere_makes_room() -> None:
    first, second = approval(call("a"), approval_id="1"), approval(call("b"), approval_id="2")
    desk = Desk(None)
    desk.choose({"1": first})
    assert desk.choose({"2": second}) is second
    assert desk.choose({}) is None


def test_a_refused_decision_is_asked_again() -> None:
    first = approval(call("a"), approval_id="1")
    desk = Desk(None)
    desk.choose({"1": first})
    desk.answered(first)
    desk.reopen()
    assert desk.choose({"1": first}) is first


def test_only_the_content_of_a_file_is_edited() -> None:
    write = call("write_file", path="a.py", content="x\n", backup=True)
    begun = edit.draft(write)
    assert (begun.text, begun.suffix) == ("x\n", ".py")
    assert json.loads(edit.edited_arguments(write, begun, "é\n")) == {"path": "a.py", "content": "é\n", "backup": True}


def test_a_command_is_edited_as_it_stands() -> None:
    assert edit.draft(call("execute_command", command="make")).text == "make"


def test_other_arguments_are_edited_as_json() -> None:
    deploy = call("deploy", env="prod")
    begun = edit.draft(deploy)
    assert edit.edited_arguments(deploy, begun, '{"env": "test"}\n') == '{"env": "test"}'
    with pytest.raises(edit.EditFailed, match="no JSON"):
        edit.edited_arguments(deploy, begun, "{env}")
    with pytest.raises(edit.EditFailed, match="JSON object"):
        edit.edited_arguments(deploy, begun, "[]")


def test_the_users_editor_changes_the_text() -> None:
    assert edit.run_editor(["sed", "-i", "s/old/new/"], edit.Draft("old\r\n", ".txt")) == "new\r\n"


def test_an_editor_that_fails_decides_nothing() -> None:
    with pytest.raises(edit.EditFailed, match="ended with status 1"):
        edit.run_editor(["false"], edit.Draft("x", ".txt"))
    with pytest.raises(edit.EditFailed, match="cannot start no-such-editor"):
        edit.run_editor(["no-such-editor"], edit.Draft("x", ".txt"))
