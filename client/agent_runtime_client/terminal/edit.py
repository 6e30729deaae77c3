"""Editing the arguments of a call before it is approved."""

import json
import os
import shlex
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from agent_runtime import v1
from agent_runtime_client.terminal import calls
from agent_runtime_client.terminal.prompt import Prompt, in_terminal

_EDITED_ALONE = {"write_file": "content", "execute_command": "command"}

_EDITORS = ("sensible-editor", "nano", "vi")


class EditFailed(Exception):
    """The edited text cannot be used; nothing was decided."""


@dataclass(frozen=True)
class Draft:
    """The text a person edits: one argument, or the whole JSON."""

    text: str
    suffix: str
    argument: str = ""


def draft(call: v1.ToolCall) -> Draft:
    """Choose what to edit: the content of a file, the command, or the arguments as JSON."""
    name = _EDITED_ALONE.get(call.tool_name, "")
    value = (calls.arguments(call) or {}).get(name)
    if isinstance(value, str):
        suffix = PurePosixPath(calls.argument(call, "path")).suffix if name == "content" else ".sh"
        return Draft(value, suffix if suffix[1:].isalnum() else ".txt", name)
    found = calls.arguments(call)
    text = call.arguments_json if found is None else json.dumps(found, indent=2, ensure_ascii=False) + "\n"
    return Draft(text, ".json")


def edited_arguments(call: v1.ToolCall, begun: Draft, text: str) -> str:
    """The arguments as JSON after the edit."""
    if begun.argument:
        return json.dumps({**(calls.arguments(call) or {}), begun.argument: text}, ensure_ascii=False)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise EditFailed(f"that is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise EditFailed("the arguments must be a JSON object")
    return text.strip()


def editor_command() -> list[str]:
    """The user's editor, else one that is usually there; empty when there is none."""
    named = os.environ.get("VISUAL") or os.environ.get("EDITOR") or ""
    return shlex.split(named) or [found for found in map(shutil.which, _EDITORS) if found][:1]


def run_editor(command: list[str], begun: Draft) -> str:
    """Let the user edit the text in a program of theirs."""
    with tempfile.TemporaryDirectory(prefix="agent-runtime-") as folder:
        file = Path(folder) / f"edit{begun.suffix}"
        file.write_text(begun.text, "utf-8", newline="")
        try:
            ended = subprocess.run([*command, str(file)], check=False)  # noqa: S603 - the user's own editor
        except OSError as error:
            raise EditFailed(f"cannot start {command[0]}: {error.strerror}") from error
        if ended.returncode != 0:
            raise EditFailed(f"{command[0]} ended with status {ended.returncode}")
        try:
            with file.open(encoding="utf-8", newline="") as edited:
                return edited.read()
        except (OSError, UnicodeDecodeError) as error:
            raise EditFailed(f"cannot read what {command[0]} left") from error


async def edit_call(call: v1.ToolCall, prompt: Prompt) -> str | None:
    """Let the user edit the call, in an editor or on the prompt; the new arguments, None when unchanged."""
    begun = draft(call)
    command = editor_command()
    text: str | None
    if command and not (begun.argument == "command" and "\n" not in begun.text):
        text = await in_terminal(lambda: run_editor(command, begun))
    elif "\n" in begun.text.strip() and begun.argument:
        raise EditFailed("name your editor in EDITOR to change a text of several lines")
    else:
        text = await prompt.read_about("edit » ", " ".join(begun.text.split("\n")).strip())
    if text is None or text == begun.text:
        return None
    return edited_arguments(call, begun, text)
