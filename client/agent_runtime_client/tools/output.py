"""The output of a command: its beginning and its end are kept, and told bit by bit."""

import asyncio
import codecs
from collections import deque
from collections.abc import Callable
from typing import Final

_MOST_PENDING: Final = 16 * 1024


class HeadAndTail:
    """Keeps the first and the last bytes of a stream."""

    def __init__(self, limit: int) -> None:
        self._half = max(limit // 2, 1)
        self._head = bytearray()
        self._tail: deque[bytes] = deque()
        self._tail_size = 0
        self.size = 0

    def add(self, data: bytes) -> None:
        """Take the next bytes."""
        self.size += len(data)
        room = self._half - len(self._head)
        self._head += data[:room] if room > 0 else b""
        rest = data[max(room, 0) :]
        if rest:
            self._tail.append(rest)
            self._tail_size += len(rest)
        while self._tail and self._tail_size - len(self._tail[0]) >= self._half:
            self._tail_size -= len(self._tail.popleft())

    @property
    def dropped(self) -> int:
        """How many bytes in the middle are not kept."""
        return self.size - len(self._head) - min(self._tail_size, self._half)

    def text(self) -> str:
        """Return what is kept, with a line that says what is missing."""
        tail = b"".join(self._tail)[-self._half :] if self._tail else b""
        if not self.dropped:
            return (bytes(self._head) + tail).decode("utf-8", "replace")
        gap = f"\n[... {self.dropped} bytes left out ...]\n"
        return self._head.decode("utf-8", "replace") + gap + tail.decode("utf-8", "replace")


class Ticker:
    """Tells output as progress, not more often than every `seconds`; of a flood only the end."""

    def __init__(self, progress: Callable[[str], None], seconds: float) -> None:
        self._progress = progress
        self._seconds = seconds
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._pending = ""
        self._timer: asyncio.TimerHandle | None = None

    def add(self, data: bytes) -> None:
        """Take the next bytes."""
        self._pending = (self._pending + self._decoder.decode(data))[-_MOST_PENDING:]
        if self._timer is None:
            self._tell()
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self._tick)

    def close(self) -> None:
        """Tell what is left."""
        if self._timer is not None:
            self._timer.cancel()
        self._tell()

    def _tick(self) -> None:
        self._timer = None
        if self._pending:
            self.add(b"")

    def _tell(self) -> None:
        if self._pending:
            text, self._pending = self._pending, ""
            self._progress(text)
