"""Pieces on their way to files: a terminal without a prompt, or pipes."""

import sys
from typing import Self

from rich.console import Console
from rich.text import Text

from agent_runtime_client.terminal.feed import Chunk, Line, Piece, Voice
from agent_runtime_client.terminal.flow import STYLES, CleanStream, Flow

_ENDLESS = 1_000_000  # cells: rows are left to the terminal


class Printer:
    """Prints answers to one console and what happens around them to another one."""

    def __init__(self, answers: Console, activity: Console) -> None:
        self._answers = answers
        self._activity = activity
        self._output = Flow()
        self._stream = CleanStream()
        self._key = ""
        self._closes = answers
        self._open = False  # whether the last line still lacks its end

    @classmethod
    def for_pipes(cls) -> Self:
        """Answers to standard output, the rest to standard error."""
        return cls(stdout_console(), Console(stderr=True, highlight=False))

    @classmethod
    def for_one(cls, console: Console) -> Self:
        """Everything to one console."""
        return cls(console, console)

    @classmethod
    def silent(cls) -> Self:
        """Nothing to anywhere but remarks to standard error."""
        return cls(Console(quiet=True), Console(stderr=True, highlight=False))

    def show(self, piece: Piece) -> None:
        """Print one piece."""
        match piece:
            case Line(text):
                self.line(text)
            case Chunk(voice=Voice.OUTPUT):
                self._end_text()
                for row in self._output.push(piece, _ENDLESS):
                    _print(self._activity, row)
            case Chunk():
                self._text(piece)

    def line(self, text: Text) -> None:
        """Print whole lines about what happens."""
        self.finish()
        _print(self._activity, text)

    def finish(self) -> None:
        """End the line being written."""
        self._end_text()
        for row in self._output.flush():
            _print(self._activity, row)

    def _text(self, chunk: Chunk) -> None:
        if chunk.key != self._key:
            self.finish()
            self._key = chunk.key
        text = self._stream.push(chunk.text)
        if text:
            console = self._answers if chunk.voice is Voice.ANSWER else self._activity
            _print(console, Text(text, STYLES[chunk.voice]), end="")
            self._open = not text.endswith("\n")
            self._closes = console

    def _end_text(self) -> None:
        if self._open:
            _print(self._closes, Text(""))
        self._open, self._key, self._stream = False, "", CleanStream()


def stdout_console() -> Console:
    """Standard output, with colours only where there is a terminal."""
    return Console(highlight=False)


def _print(console: Console, text: Text, end: str = "\n") -> None:
    console.print(text, end=end, soft_wrap=True)


def survive_any_text() -> None:
    """Keep characters that the terminal's encoding lacks from ending the program."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
