"""A proposed write is shown as what it changes."""

from pathlib import Path

from agent_runtime_client.terminal.diff import Unreadable, current_text, diff_text, file_diff


def test_a_changed_line_is_removed_and_added() -> None:
    diff = file_diff("a\nb\nc\n", "a\nB\nc\n")
    assert diff.lines == ("@@ -1,3 +1,3 @@", " a", "-b", "+B", " c")
    assert diff.headline == "+1 -1, then 3 lines"


def test_a_new_file_is_called_new() -> None:
    diff = file_diff(None, "x\n")
    assert diff.headline == "new file, 1 line"
    assert diff.lines[-1] == "+x"


def test_equal_text_is_no_change() -> None:
    assert file_diff("same\n", "same\n").headline == "no change"


def test_a_missing_newline_at_the_end_is_told() -> None:
    assert "\\ no newline at end of file" in file_diff("a\n", "a").lines


def test_control_characters_in_a_diff_are_spelled_out() -> None:
    assert "+\\x1b[2Jb" in file_diff("a\n", "\x1b[2Jb\n").lines


def test_a_change_of_line_ends_only_is_visible() -> None:
    assert "+a\\r" in file_diff("a\n", "a\r\n").lines


def test_added_lines_are_green_and_removed_ones_red() -> None:
    text = diff_text(("+new", "-old"))
    assert [str(span.style) for span in text.spans] == ["green", "red"]


def test_the_file_is_read_from_the_workspace(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("here")
    assert current_text(tmp_path, "a.txt") == "here"
    assert current_text(tmp_path, "missing.txt") is None


def test_what_cannot_be_compared_says_why(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    workspace = tmp_path / "inner"
    workspace.mkdir()
    assert current_text(tmp_path, "binary") == Unreadable("is no UTF-8 text")
    assert current_text(workspace, "../binary") == Unreadable("lies outside of the workspace")
    assert current_text(tmp_path, "inner") == Unreadable("is too large or no regular file")
    assert current_text(tmp_path, "bad\0name") == Unreadable("cannot be read (ValueError)")
    assert file_diff(Unreadable("is no UTF-8 text"), "x").headline.startswith("replaces a file that is no UTF-8")
