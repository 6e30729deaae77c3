"""Reading tool results: what a command said, what a file holds, whether a call was carried out at all."""

import re
from dataclasses import dataclass

from agent_runtime_server.mockllm.seen import PastCall

_NOT_DONE = re.compile(
    r"\W*(error|fail(ed|ure)|reject(ed|ion)|den(ied|y)|declin(ed|e)|refus(ed|al)|cancell?ed|expired|timed.?out"
    r"|not (run|carried out|executed|allowed|permitted|approved|found)|invalid|unknown|outcome.?unknown"
    r"|the (call )?(did|has|could) not|the outcome of|no result was"
    r"|the (user|reviewer|human|call|tool call) (has |was )?(reject|declin|refus|den|cancel|expire|fail))",
    re.IGNORECASE,
)
_STATUS = re.compile(r"\W*(status|outcome)\W+(\w+)", re.IGNORECASE)
_EXIT = re.compile(r"\b(?:exit|return)[ _-]?(?:code|status)?\W{1,4}(-?\d+)", re.IGNORECASE)
_NUMBERED = re.compile(r"[ \t]*\d+[ \t]*[|:\t→][ \t]?", re.MULTILINE)
_PYTHON_FILE = re.compile(r"[\w./-]*\w\.py\b")


@dataclass(frozen=True, slots=True)
class Command:
    """The outcome of a command."""

    exit_code: int
    output: str

    @property
    def last_line(self) -> str:
        """The last line that says something."""
        return next((line.strip() for line in reversed(self.output.splitlines()) if line.strip()), "")


def was_done(call: PastCall) -> bool:
    """False when a call was rejected, cancelled or failed, as far as its result tells."""
    if call.result is None:
        return False
    opening = call.result.lstrip()[:200]
    if call.name == "execute_command" and command_of(call):
        return True
    if status := _STATUS.match(opening):
        return status[2].lower() in ("succeeded", "success", "ok", "completed", "done")
    return not _NOT_DONE.match(opening)


def command_of(call: PastCall) -> Command | None:
    """Return the outcome of a command that ran; None when it did not."""
    text = call.result or ""
    found = _EXIT.search(text)
    if not found:
        return None
    rest = text[: found.start()] + text[found.end() :]
    return Command(int(found[1]), rest.strip("\n"))


def file_of(call: PastCall) -> str:
    """Return the content of a file that was read, without the line numbers it may come with."""
    text = call.result or ""
    lines = text.splitlines(keepends=True)
    numbered = [line for line in lines if line.strip()]
    if numbered and all(_NUMBERED.match(line) for line in numbered):
        return "".join(_NUMBERED.sub("", line, count=1) for line in lines)
    return text


def python_files(listing: str) -> list[str]:
    """Return the Python files that a listing names, each once, in its order."""
    return list(dict.fromkeys(_PYTHON_FILE.findall(listing)))


def shortened(text: str, lines: int = 12, width: int = 160) -> str:
    """Return the start of a text, fit to be quoted."""
    kept = [line[:width] for line in text.strip().splitlines()]
    return "\n".join(kept[:lines] + ([f"… ({len(kept) - lines} more lines)"] if len(kept) > lines else []))
