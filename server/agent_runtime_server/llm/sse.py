"""Server-sent events out of raw bytes; pure, and bounded in what it keeps.

Lines end at \\n (a \\r before it is dropped). Nothing else ends a line: U+2028 and a lone \\r may stand inside
a JSON string. Only `data` is of interest; event names, ids, retries and comments are dropped.
"""

from typing import Final

DONE: Final = b"[DONE]"
"""The data of the event that ends an OpenAI-compatible stream."""

LONGEST_LINE: Final = 4 * 1024 * 1024
LONGEST_EVENT: Final = 4 * 1024 * 1024
_BOM: Final = b"\xef\xbb\xbf"


class SseOverflow(Exception):
    """A line or an event is longer than this parser keeps."""


class SseParser:
    """Takes bytes as they come, gives the data of each event that they complete."""

    def __init__(self, longest_line: int = LONGEST_LINE, longest_event: int = LONGEST_EVENT) -> None:
        self._longest_line = longest_line
        self._longest_event = longest_event
        self._plain_size = min(longest_line, longest_event)  # of what need not be measured line by line
        self._tail = bytearray()  # a line that has not ended yet
        self._data: list[bytes] = []  # the data lines of an event that has not ended yet
        self._data_size = 0
        self._at_start = True

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take a chunk and return the data of the events that end in it."""
        if (whole_events := self._whole_events(chunk)) is not None:
            return whole_events
        last_break = chunk.rfind(b"\n")
        if last_break < 0:
            self._hold(chunk)
            return []
        whole = chunk[:last_break]
        if self._tail:
            whole = bytes(self._tail) + whole
            self._tail.clear()
        events: list[bytes] = []
        for line in whole.split(b"\n"):
            self._line(line, events)
        self._hold(chunk[last_break + 1 :])
        return events

    def _whole_events(self, chunk: bytes) -> list[bytes] | None:
        """Return the events of a chunk that is made of whole ones of one line each, as most are; None for another."""
        if self._tail or self._data or len(chunk) > self._plain_size or b"\r" in chunk:
            return None
        if not (chunk.startswith(b"data: ") and chunk.endswith(b"\n\n")):
            return None
        events = chunk[6:-2].split(b"\n\ndata: ")
        if chunk.count(b"\n") != 2 * len(events):
            return None
        self._at_start = False
        return events

    def finish(self) -> list[bytes]:
        """Return the event that the end of the stream left without its blank line, if there is one."""
        events: list[bytes] = []
        if self._tail:
            self._line(bytes(self._tail), events)
            self._tail.clear()
        self._line(b"", events)
        return events

    def _hold(self, rest: bytes) -> None:
        self._tail += rest
        if len(self._tail) > self._longest_line:
            raise SseOverflow(f"a line is longer than {self._longest_line} bytes")

    def _line(self, line: bytes, events: list[bytes]) -> None:
        if len(line) > self._longest_line:  # as where it comes in pieces
            raise SseOverflow(f"a line is longer than {self._longest_line} bytes")
        if line.endswith(b"\r"):
            line = line[:-1]
        if self._at_start:
            line = line.removeprefix(_BOM)
            self._at_start = False
        if not line:
            self._end_event(events)
        elif line.startswith(b"data:"):
            self._add(line[6:] if line.startswith(b"data: ") else line[5:])
        elif line == b"data":
            self._add(b"")

    def _add(self, data: bytes) -> None:
        self._data_size += len(data) + 1
        if len(data) > self._longest_line or self._data_size > self._longest_event + 1:
            raise SseOverflow(f"an event is longer than {self._longest_event} bytes")
        self._data.append(data)

    def _end_event(self, events: list[bytes]) -> None:
        if self._data:
            events.append(self._data[0] if len(self._data) == 1 else b"\n".join(self._data))
            self._data.clear()
            self._data_size = 0
