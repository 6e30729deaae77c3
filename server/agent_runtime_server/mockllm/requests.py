"""The built-in behaviour for small requests: read, find, list, create, run."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from agent_runtime_server.mockllm.play import Answer, Call
from agent_runtime_server.mockllm.results import command_of, shortened, was_done
from agent_runtime_server.mockllm.seen import PastCall, Seen

TEST_COMMAND = "python3 -m unittest -q"
_HELP = (
    'I am a mock model: I know no language, only a few phrases. Try "list", "read FILE", "find TEXT", '
    '"create file FILE with TEXT", "create folder NAME", "run COMMAND", or "the tests fail, find out why and '
    'fix it". Set AGENT_RUNTIME_LLM_BASE_URL to talk to a real model.'
)


@dataclass(frozen=True, slots=True)
class _Phrase:
    tool: str
    pattern: re.Pattern[str]
    arguments: Callable[[re.Match[str]], Mapping[str, object]]


def _phrase(tool: str, pattern: str, arguments: Callable[[re.Match[str]], Mapping[str, object]]) -> _Phrase:
    courtesy = r"^\W*(?:(?:please|now|then|can you|could you)\W+)*"
    return _Phrase(tool, re.compile(courtesy + pattern, re.IGNORECASE | re.DOTALL), arguments)


_NAME = r"[\"'`]?(?P<name>[^\s\"'`]+?)[\"'`]?"
_END = r"[.!?\s]*$"
_PHRASES = (
    _phrase("create_directory", rf"(?:create|make|add)\s+(?:an?\s+|the\s+)?(?:new\s+)?(?:folder|directory)\s+"
            rf"(?:named\s+|called\s+)?{_NAME}{_END}", lambda m: {"path": m["name"]}),
    _phrase("write_file", r"(?:create|make|add|write)\s+(?:an?\s+|the\s+)?(?:new\s+)?file\s+"
            rf"(?:named\s+|called\s+)?{_NAME}"
            r"(?:\s*(?:\s(?:with|containing|saying)(?:\s+(?:the\s+)?(?:content|text)s?)?\b|:)\s*:?\s*(?P<text>.*))?$",
            lambda m: _file(m)),
    _phrase("write_file", rf"write\s+{_NAME}\s*:\s*(?P<text>.*)$",
            lambda m: _file(m)),
    _phrase("execute_command", r"(?:run|execute)\s+(?:the\s+command\s+)?`?(?P<command>[^`]+?)`?\s*$",
            lambda m: {"command": _command(m["command"])}),
    _phrase("read_file", rf"(?:read|show(?:\s+me)?|open|cat)\s+(?:the\s+)?(?:file\s+)?{_NAME}{_END}",
            lambda m: {"path": m["name"]}),
    _phrase("search_in_code", r"(?:find|search(?:\s+for)?|grep|look for)\s+[\"'`]?(?P<text>.+?)[\"'`]?"
            rf"(?:\s+in\s+(?:the\s+)?(?:code|project|files))?{_END}", lambda m: {"query": m["text"]}),
    _phrase("list_files", r"(?:list|ls|what files|show(?:\s+me)?\s+(?:the|all)\s+files)\b(?:\s+(?:the\s+|all\s+)?"
            rf"(?:files|folder|directory|everything))?(?:\s+(?:in|of)\b)?(?:\s+(?:the\s+)?{_NAME})?{_END}",
            lambda m: {"path": m["name"] or "."}),
)  # fmt: skip


def step(seen: Seen) -> Answer:
    """Return the next step of a small request: the call it needs, or a word about what came back."""
    for phrase in _PHRASES:
        if found := phrase.pattern.search(seen.last_user.strip()):
            return _carry_out(seen, Call(phrase.tool, phrase.arguments(found)))
    if seen.fresh:
        return _report(seen.fresh[-1])
    understood = f" You said: {shortened(seen.last_user, lines=2)}" if seen.last_user.strip() else ""
    return Answer(f"{_HELP}{understood}")


def hand_over(seen: Seen, reason: str) -> Answer | None:
    """Return the call that hands the turn to the coder; None where that cannot help."""
    if "switch_agent" not in seen.tools or any(call.name == "switch_agent" for call in seen.fresh):
        return None
    call = Call("switch_agent", {"agent": "coder", "reason": reason})
    return Answer("The coder can do that.", tool_calls=(call,))


def _carry_out(seen: Seen, call: Call) -> Answer:
    done = [past for past in seen.fresh if past.name == call.name]
    if done:
        return _report(done[-1])
    if call.name in seen.tools:
        return Answer(_ANNOUNCED[call.name], tool_calls=(call,))
    missing = Answer(f"I would call {call.name} for that, but it is not offered to me here.")
    return hand_over(seen, f"this needs {call.name}") or missing


_ANNOUNCED = {
    "create_directory": "I create the folder.",
    "write_file": "I write the file.",
    "execute_command": "I run the command.",
    "read_file": "I read the file.",
    "search_in_code": "I search the code.",
    "list_files": "I list the files.",
}


def _report(call: PastCall) -> Answer:
    quoted = shortened(call.result or "")
    if not was_done(call):
        return Answer(f"{call.name} was not carried out, so I stop here. It came back with:\n\n{quoted}")
    if command := command_of(call):
        said = shortened(command.output) or "(no output)"
        return Answer(f"`{call.argument('command')}` ended with exit code {command.exit_code}:\n\n{said}")
    match call.name:
        case "write_file":
            return Answer(f"Done: {call.argument('path')} is written.")
        case "create_directory":
            return Answer(f"Done: the folder {call.argument('path')} is there.")
        case "read_file":
            lines = len((call.result or "").splitlines())
            return Answer(f"{call.argument('path')} has {lines} lines:\n\n{quoted}")
        case _:
            return Answer(f"{call.name} found:\n\n{quoted or '(nothing)'}")


def _file(found: re.Match[str]) -> Mapping[str, object]:
    arguments: dict[str, object] = {"path": found["name"], "content": _file_text(found["text"])}
    return arguments | {"create_dirs": True} if "/" in found["name"] else arguments


def _file_text(text: str | None) -> str:
    body = (text or "").strip()
    if fenced := re.fullmatch(r"```\w*\n(.*?)\n?```", body, re.DOTALL):
        body = fenced[1]
    elif quoted := re.fullmatch(r"([\"'`])([^\"'`]*)\1", body):
        body = quoted[2]
    return f"{body}\n" if body else ""


def _command(text: str) -> str:
    asked = text.strip()
    tests = re.fullmatch(r"(all )?(the )?(unit ?)?tests?[.!]?", asked, re.IGNORECASE)
    return TEST_COMMAND if tests else asked
