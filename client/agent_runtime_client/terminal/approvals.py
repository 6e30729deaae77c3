"""Showing an approval so that a person can decide it, and reading the answer."""

from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from rich.text import Text

from agent_runtime import v1
from agent_runtime_client.terminal import calls, names
from agent_runtime_client.terminal.diff import current_text, diff_text, file_diff
from agent_runtime_client.terminal.text import count, reveal, shorten

ROWS = 60
CHOICES = "[a]pprove  [e]dit  [r]eject [why]  [v]iew all"


def approval_view(
    approval: v1.Approval, workspace: Path | None, *, rows: int | None = ROWS, lead: str = "Allow "
) -> Text:
    """What is asked for: a diff, a command, or the arguments; at most `rows` of them unless None."""
    call = approval.tool_call
    head = Text.assemble(("? ", "bold yellow"), (lead, "bold"), (reveal(call.tool_name), "bold yellow"))
    body = _write(call, workspace, head) if call.tool_name == "write_file" else _plain(call)
    head.append(f"  ({_circumstances(approval)})", "dim")
    lines = list(body.split("\n", allow_blank=True))
    if rows is not None and len(lines) > rows:
        hidden = count(len(lines) - rows, "more line")
        lines = lines[:rows]
        lines.append(Text(f"  … {hidden}; v shows all", "bold yellow"))
    return Text("\n").join([head, *lines]) if body else head


def _circumstances(approval: v1.Approval) -> str:
    told = [f"{names.risk(approval.tool_call.risk)} risk"]
    if approval.policy_rules:
        told.append("asked by " + shorten(", ".join(approval.policy_rules), 80))
    return ", ".join(told)


def _write(call: v1.ToolCall, workspace: Path | None, head: Text) -> Text:
    path, content = calls.argument(call, "path"), (calls.arguments(call) or {}).get("content")
    if not path or not isinstance(content, str):
        return _plain(call)
    head.append(f" {reveal(path)}", "bold")
    other = Text("\n".join(f"  {line}" for line in calls.argument_lines(call, without=("path", "content"))))
    diff = file_diff(None if workspace is None else current_text(workspace, path), content)
    headline = diff.headline if workspace else diff.headline.replace("new file", "the whole file")
    head.append(f", {headline}")
    shown = diff_text(diff.lines)
    return Text("\n").join([other, shown]) if other else shown


def _plain(call: v1.ToolCall) -> Text:
    command = calls.argument(call, "command") if call.tool_name == "execute_command" else ""
    text = Text()
    if command:
        first, *more = reveal(command).split("\n")
        text.append("\n".join([f"  $ {first}", *(f"    {line}" for line in more)]), "bold")
    rest = calls.argument_lines(call, without=("command",) if command else ())
    for line in rest:
        text.append(f"{chr(10) if text else ''}  {line}")
    return text


class Choice(Enum):
    """What a person wants to do about an approval."""

    APPROVE = auto()
    EDIT = auto()
    REJECT = auto()
    VIEW = auto()
    UNCLEAR = auto()


@dataclass(frozen=True)
class Answer:
    """A choice, with the words that go with it."""

    choice: Choice
    comment: str = ""


_WORDS = {
    "a": Choice.APPROVE,
    "approve": Choice.APPROVE,
    "y": Choice.APPROVE,
    "yes": Choice.APPROVE,
    "e": Choice.EDIT,
    "edit": Choice.EDIT,
    "r": Choice.REJECT,
    "reject": Choice.REJECT,
    "n": Choice.REJECT,
    "no": Choice.REJECT,
    "v": Choice.VIEW,
    "view": Choice.VIEW,
}


def parse_answer(text: str) -> Answer:
    """Read the answer to an approval; anything but a plain choice is unclear, so nothing runs by accident."""
    first, _, rest = text.strip().partition(" ")
    choice = _WORDS.get(first.lower(), Choice.UNCLEAR)
    if rest.strip() and choice is not Choice.REJECT:
        return Answer(Choice.UNCLEAR)
    return Answer(choice, rest.strip())


def edited_view(approval: v1.Approval, arguments_json: str, workspace: Path | None) -> Text:
    """The call as it was edited, shown the same way."""
    edited = v1.Approval()
    edited.CopyFrom(approval)
    edited.tool_call.arguments_json = arguments_json
    return approval_view(edited, workspace, lead="Edited ")
