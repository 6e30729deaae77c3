"""What a proposed write would change in a file."""

import difflib
from dataclasses import dataclass
from pathlib import Path

from rich.text import Text

from agent_runtime_client.terminal.text import count, reveal

_LARGEST = 2_000_000  # bytes; beyond it a diff takes longer than a person waits
_NO_NEWLINE = "\\ no newline at end of file"


@dataclass(frozen=True)
class FileDiff:
    """A unified diff of one file, and how to introduce it."""

    headline: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Unreadable:
    """A file that exists but cannot be compared."""

    why: str


def file_diff(before: str | Unreadable | None, after: str) -> FileDiff:
    """Compare the file's text now (None when there is no such file) with the proposed one."""
    old = before if isinstance(before, str) else ""
    lines = tuple(_unified(old, after))
    size = count(len(after.splitlines()), "line")
    if isinstance(before, Unreadable):
        return FileDiff(f"replaces a file that {before.why}; {size}", lines)
    if before is None:
        return FileDiff(f"new file, {size}", lines)
    if not lines:
        return FileDiff("no change", ())
    added, removed = (sum(line.startswith(sign) for line in lines) for sign in "+-")
    return FileDiff(f"+{added} -{removed}, then {size}", lines)


def _unified(before: str, after: str) -> list[str]:
    old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    shown: list[str] = []
    for line in list(difflib.unified_diff(old, new, n=3))[2:]:
        shown.append(reveal(line.removesuffix("\n")))
        if not line.endswith("\n"):
            shown.append(_NO_NEWLINE)
    return shown


def current_text(workspace: Path, path: str) -> str | Unreadable | None:
    """The text of a file of the workspace as it is now, or why it cannot be shown; None when there is none."""
    try:
        file = (workspace / path).resolve()
        if not file.is_relative_to(workspace.resolve()):
            return Unreadable("lies outside of the workspace")
        if not file.exists():
            return None
        if not file.is_file() or file.stat().st_size > _LARGEST:
            return Unreadable("is too large or no regular file")
        return file.read_bytes().decode()
    except UnicodeDecodeError:
        return Unreadable("is no UTF-8 text")
    except (OSError, ValueError) as error:
        return Unreadable(f"cannot be read ({type(error).__name__})")


def diff_text(lines: tuple[str, ...], indent: str = "  ") -> Text:
    """The diff in colours."""
    return Text("\n").join(Text(indent + line, _style(line)) for line in lines)


def _style(line: str) -> str:
    if line.startswith("@@"):
        return "cyan"
    return {"+": "green", "-": "red", "\\": "dim"}.get(line[:1], "")
