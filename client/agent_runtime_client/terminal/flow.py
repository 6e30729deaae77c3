"""Streamed text as rows of a terminal: complete ones to print, and the one still being written."""

import re

from rich.cells import cell_len
from rich.text import Text

from agent_runtime_client.terminal.feed import Chunk, Voice
from agent_runtime_client.terminal.text import clean

# The beginning of something that `clean` can only judge once it is whole.
_UNFINISHED = re.compile(r"(?:\r|\x1b[^A-Za-z\x07]{0,64})\Z")
STYLES = {Voice.ANSWER: "", Voice.REASONING: "dim italic", Voice.OUTPUT: "dim"}
GUTTERS = {Voice.ANSWER: "", Voice.REASONING: "", Voice.OUTPUT: "  │ "}


class CleanStream:
    """Cleans text that arrives in pieces, so that an escape sequence cut in two is still recognised."""

    def __init__(self) -> None:
        self._held = ""

    def push(self, text: str) -> str:
        """Return what can be shown now."""
        text = self._held + text
        cut = _UNFINISHED.search(text)
        self._held = text[cut.start() :] if cut else ""
        return clean(text[: cut.start()] if cut else text)


class Flow:
    """Wraps streamed text into rows of a given width."""

    def __init__(self) -> None:
        self._key = ""
        self._voice = Voice.ANSWER
        self._tail = ""
        self._stream = CleanStream()

    def push(self, chunk: Chunk, width: int) -> list[Text]:
        """Take streamed text in; return the rows that are complete now."""
        rows = self.flush() if chunk.key != self._key else []
        self._key, self._voice = chunk.key, chunk.voice
        *lines, self._tail = (self._tail + self._stream.push(chunk.text)).split("\n")
        room = max(width - cell_len(GUTTERS[self._voice]), 8)
        for line in lines:
            rows += [self._row(row) for row in wrap(line, room)]
        *full, self._tail = wrap(self._tail, room)
        return rows + [self._row(row) for row in full]

    @property
    def tail(self) -> Text | None:
        """The row being written; None when there is none."""
        return self._row(self._tail) if self._tail else None

    def flush(self) -> list[Text]:
        """End the row being written, as something else comes."""
        rows = [self._row(self._tail)] if self._tail else []
        self._key, self._tail, self._stream = "", "", CleanStream()
        return rows

    def _row(self, row: str) -> Text:
        return Text(GUTTERS[self._voice] + row, STYLES[self._voice])


def wrap(line: str, width: int) -> list[str]:
    """Cut a line into rows of at most `width` cells, at a space where there is one; the last may be unfinished."""
    rows: list[str] = []
    while (end := _fitting(line, width)) < len(line):
        space = line.rfind(" ", 1, end + 1)
        if space > 0 and line[:space].strip():
            rows.append(line[:space])
            line = line[space + 1 :]
        else:
            rows.append(line[:end])
            line = line[end:]
    return [*rows, line]


def _fitting(line: str, width: int) -> int:
    """How many characters from the start fit into `width` cells; at least one."""
    if line.isascii():
        return min(len(line), width)
    used = 0
    for index, char in enumerate(line):
        used += cell_len(char)
        if used > width:
            return max(index, 1)
    return len(line)
