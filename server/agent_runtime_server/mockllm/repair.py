"""The built-in behaviour for "the tests fail, find out why and fix it", step by step from the transcript alone.

It knows a few slips by their shape, finds one in the files it has read, and puts right that one line.
Whoever may not write looks for the cause and hands over; whoever may write, writes and runs the tests again.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from agent_runtime_server.mockllm.play import Answer, Call
from agent_runtime_server.mockllm.requests import TEST_COMMAND, hand_over
from agent_runtime_server.mockllm.results import command_of, file_of, python_files, shortened, was_done
from agent_runtime_server.mockllm.seen import PastCall, Seen

_ASKED = re.compile(
    r"\btests?\b.{0,40}\b(fail\w*|broken|red|do(n't| not) pass)|\b(failing|broken|red) tests?\b|\bfix the tests?\b",
    re.IGNORECASE | re.DOTALL,
)
_MOST_FILES = 8


@dataclass(frozen=True, slots=True)
class _Slip:
    pattern: re.Pattern[str]
    replacement: str
    cause: str


_SLIPS = (
    _Slip(
        re.compile(r"(re\.sub\(\s*r?([\"'])(?:\[\^[^\]]+\]|\\W|\\s))(\2\s*,)"),
        r"\1+\3",
        "the pattern matches one character at a time, so a run of them is replaced by several hyphens instead of one",
    ),
    _Slip(
        re.compile(r"(sum\((\w+)\)\s*/\s*)\(?\s*len\(\2\)\s*[-+]\s*1\s*\)?"),
        r"\1len(\2)",
        "the mean is divided by one too many or too few",
    ),
)


@dataclass(frozen=True, slots=True)
class _Finding:
    path: str
    line: int
    cause: str
    repaired: str


def is_asked(seen: Seen) -> bool:
    """True when the user wants failing tests repaired and there are tools to do it with."""
    return bool(seen.tools and _ASKED.search(seen.last_user))


def step(seen: Seen) -> Answer:
    """Return the next step."""
    if "write_file" in seen.tools and seen.agent != "architect":
        return _repair(seen)
    return _investigate(seen)


def _investigate(seen: Seen) -> Answer:
    if answer := _look(seen):
        return answer
    finding = _finding(seen)
    if not finding:
        return _at_a_loss(seen)
    place = f"{finding.path}, line {finding.line}"
    handed = hand_over(seen, f"{place}: {finding.cause}; correct that line and run {TEST_COMMAND}")
    text = f"Found it. {place}: {finding.cause}."
    return Answer(f"{text} The coder can correct it.", tool_calls=handed.tool_calls) if handed else Answer(text)


def _repair(seen: Seen) -> Answer:
    written = [call for call in seen.fresh if call.name == "write_file"]
    if written:
        return _after_writing(seen, written[-1])
    if not _finding(seen) and (answer := _look(seen)):
        return answer
    finding = _finding(seen)
    if not finding:
        return _at_a_loss(seen)
    call = Call("write_file", {"path": finding.path, "content": finding.repaired})
    return Answer(f"I correct line {finding.line} of {finding.path}.", tool_calls=(call,))


def _look(seen: Seen) -> Answer | None:
    """Return the next look at the project; None when everything there is to see was seen."""
    runs = _named(seen, "execute_command")
    listings = _named(seen, "list_files")
    wanted = [call for call in (Call("list_files", {"path": "."}), Call("execute_command", {"command": TEST_COMMAND}))
              if call.name in seen.tools and not _named(seen, call.name)]  # fmt: skip
    if wanted:
        return Answer("I look at the project and run its tests.", tool_calls=tuple(wanted))
    if stop := _stopped([*runs, *listings]):
        return stop
    if runs and (outcome := command_of(runs[-1])) and outcome.exit_code == 0:
        return Answer(f"The tests pass ({outcome.last_line}), so there is nothing to repair.")
    read = {call.argument("path") for call in _named(seen, "read_file")}
    unread = [path for path in _files(listings) if path not in read]
    if unread and not read and "read_file" in seen.tools:
        calls = tuple(Call("read_file", {"path": path}) for path in unread[:_MOST_FILES])
        return Answer("The tests do fail. I read them and the code that they test.", tool_calls=calls)
    return None


def _after_writing(seen: Seen, write: PastCall) -> Answer:
    if stop := _stopped([write]):
        return stop
    since = seen.fresh[seen.fresh.index(write) + 1 :]
    run = next((call for call in reversed(since) if call.name == "execute_command"), None)
    if run is None:
        return Answer("Now the tests again.", tool_calls=(Call("execute_command", {"command": TEST_COMMAND}),))
    if stop := _stopped([run]):
        return stop
    outcome = command_of(run)
    code, last = (outcome.exit_code, outcome.last_line) if outcome else (None, "")
    verdict = "the tests pass" if code == 0 else f"the tests still fail (exit code {code})"
    result = f"I corrected {write.argument('path')}; {verdict}: {last or 'no output'}"
    if "attempt_completion" in seen.tools:
        return Answer(tool_calls=(Call("attempt_completion", {"result": result}),))
    return Answer(result)


def _stopped(calls: list[PastCall]) -> Answer | None:
    """Return the words to stop with when one of these calls was not carried out."""
    for call in calls:
        if not was_done(call):
            came_back = shortened(call.result or "", lines=4)
            return Answer(f"{call.name} was not carried out, so I stop here. It came back with:\n\n{came_back}")
    return None


def _at_a_loss(seen: Seen) -> Answer:
    runs = [outcome for call in _named(seen, "execute_command") if (outcome := command_of(call))]
    said = f" The tests said:\n\n{shortened(runs[-1].output)}" if runs else ""
    return Answer(f"I am a mock model and know only a few slips; none of them is in the files I read.{said}")


def _finding(seen: Seen) -> _Finding | None:
    for call in _named(seen, "read_file"):
        if was_done(call) and not _is_test(call.argument("path")):
            content = file_of(call)
            for finding in _slips_in(call.argument("path"), content):
                return finding
    return None


def _slips_in(path: str, content: str) -> Iterator[_Finding]:
    for slip in _SLIPS:
        if found := slip.pattern.search(content):
            line = content.count("\n", 0, found.start()) + 1
            repaired = content[: found.start()] + found.expand(slip.replacement) + content[found.end() :]
            yield _Finding(path, line, slip.cause, repaired)


def _files(listings: list[PastCall]) -> list[str]:
    listed = [path for call in listings for path in python_files(call.result or "")]
    return sorted(dict.fromkeys(listed), key=_is_test, reverse=True)


def _is_test(path: str) -> bool:
    name = path.rpartition("/")[2]
    return name.startswith("test") or name.endswith("_test.py")


def _named(seen: Seen, name: str) -> list[PastCall]:
    return [call for call in seen.fresh if call.name == name]
