"""What most chunks of an answer have in common, learnt from one of them; pure.

They differ in their text only, so what stands before it and behind it need not be decoded each time.
"""

from collections.abc import Sequence
from itertools import islice
from typing import Any, Final

import orjson

_MOST_LESSONS: Final = 16  # an endpoint that changes more than the text is read chunk by chunk
_PROBE: Final = "?"


class Pattern:
    """What stands around the text of the chunks of one answer."""

    def __init__(self) -> None:
        self._before = self._behind = b""
        self._lessons = 0

    def texts(self, chunks: Sequence[bytes], start: int = 0) -> list[str]:
        """Return the texts of as many chunks, from `start` on, as are known to bring a text and nothing else."""
        before, behind = self._before, self._behind
        if not before:
            return []
        first, last, quoted = len(before), -len(behind), []
        for chunk in islice(chunks, start, None):  # which are many, so nothing is called for each that need not be
            if not (chunk.startswith(before) and chunk.endswith(behind)):
                break
            quoted.append(chunk[first:last])
        try:
            texts: list[str] = orjson.loads(b"[%b]" % b",".join(quoted))
        except orjson.JSONDecodeError:
            return []
        return texts if len(texts) == len(quoted) and {*map(type, texts)} == {str} else []

    def learn(self, chunk: bytes, decoded: object) -> None:
        """Take what stands around the text of a chunk for what stands around that of others, if it brings only one."""
        text = _only_text(decoded) if self._lessons < _MOST_LESSONS else None
        if text is None:
            return
        self._lessons += 1
        before, _, behind = chunk.partition(orjson.dumps(text))
        if behind and _only_text(_decoded(b'%b"%b"%b' % (before, _PROBE.encode(), behind))) == _PROBE:
            self._before, self._behind = before, behind


def _decoded(chunk: bytes) -> object:
    try:
        return orjson.loads(chunk)
    except orjson.JSONDecodeError:
        return None


def _only_text(chunk: Any) -> str | None:
    """Return the text of a chunk that brings nothing else, as most do; None for one that has to be looked at."""
    try:
        (choice,) = chunk["choices"]
        delta = choice["delta"]
        text = delta["content"]
    except (TypeError, ValueError, LookupError):
        return None
    plain = (
        isinstance(text, str)
        and len(delta) == 1
        and choice.get("finish_reason") is None
        and not choice.get("index")
        and chunk.get("usage") is None
        and "error" not in chunk
        and chunk.get("object") != "error"
    )
    return text if plain else None
