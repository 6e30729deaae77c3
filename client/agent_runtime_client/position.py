"""How far the server's database had come behind what this client changed, so that it reads its own writes."""

from collections.abc import Sequence
from typing import Final

import grpc

LSN: Final = "x-agent-runtime-lsn"


class Position:
    """The highest position that answers have told of."""

    def __init__(self) -> None:
        self._text = ""
        self._value = 0

    def note(self, text: str) -> None:
        """Take what an answer says; a server without read replicas says nothing."""
        high, _, low = text.partition("/")
        try:
            value = int(high, 16) << 32 | int(low, 16)
        except ValueError:
            return
        if value > self._value:
            self._text, self._value = text, value

    def note_trailing(self, metadata: "grpc.aio.Metadata | None") -> None:
        """Take what the answer to a unary call says."""
        found = metadata.get(LSN) if metadata is not None else None
        if isinstance(found, str):
            self.note(found)

    def metadata(self) -> Sequence[tuple[str, str]]:
        """Return what to send with a call."""
        return ((LSN, self._text),) if self._text else ()
