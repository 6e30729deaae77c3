"""Deltas of messages being written, put in order: each text once, void attempts dropped.

Per (message, channel, call) the rules are: a lower attempt is void; a higher one starts over; the next
index is appended; an index already included is dropped; after a gap nothing is told until a snapshot
(`replace`) or the complete message comes; a complete message ends its deltas.
"""

from dataclasses import dataclass
from typing import Final

from agent_runtime import v1
from agent_runtime_client.updates import TextDelta

_MOST_ENDED: Final = 256

_Key = tuple[str, "v1.MessageDelta.Channel.ValueType", str]


@dataclass(slots=True)
class _Text:
    turn_id: str
    attempt: int
    next_index: int = 0
    broken: bool = False


class Deltas:
    """The state of all messages being written in one session."""

    def __init__(self) -> None:
        self._texts: dict[_Key, _Text] = {}
        self._attempts: dict[str, int] = {}
        self._ended: dict[str, None] = {}

    def on_event(self, event: v1.SessionEvent) -> None:
        """Take note of an event that ends or voids deltas."""
        kind = event.WhichOneof("payload")
        if kind == "assistant_message":
            self._end(event.assistant_message.message_id)
        elif kind == "turn_recovered":
            self._attempts[event.turn_id] = event.turn_recovered.attempt
        elif kind == "turn_finished":
            self._attempts.pop(event.turn_id, None)
            self._texts = {key: text for key, text in self._texts.items() if text.turn_id != event.turn_id}

    def on_delta(self, delta: v1.MessageDelta) -> TextDelta | None:
        """Return what to show, if anything."""
        if delta.message_id in self._ended or delta.attempt < self._attempts.get(delta.turn_id, 0):
            return None
        key = (delta.message_id, delta.channel, delta.call_id)
        text = self._texts.get(key)
        if text is not None and delta.attempt < text.attempt:
            return None
        if text is None or delta.attempt > text.attempt:
            return self._begin(key, delta, again=text is not None)
        return _replace(text, delta) if delta.replace else _append(text, delta)

    def _begin(self, key: _Key, delta: v1.MessageDelta, *, again: bool) -> TextDelta | None:
        text = self._texts[key] = _Text(delta.turn_id, delta.attempt)
        if delta.replace or delta.index == 0:
            text.next_index = delta.index + 1
            return _told(delta, replace=delta.replace or again)
        text.broken = True
        # What an earlier attempt wrote is void, though the new beginning is not known.
        return _told(delta, text="", replace=True) if again else None

    def _end(self, message_id: str) -> None:
        self._texts = {key: text for key, text in self._texts.items() if key[0] != message_id}
        self._ended[message_id] = None
        if len(self._ended) > _MOST_ENDED:
            del self._ended[next(iter(self._ended))]


def _replace(text: _Text, delta: v1.MessageDelta) -> TextDelta | None:
    if delta.index + 1 < text.next_index:
        return None
    text.next_index, text.broken = delta.index + 1, False
    return _told(delta, replace=True)


def _append(text: _Text, delta: v1.MessageDelta) -> TextDelta | None:
    if text.broken or delta.index < text.next_index:
        return None
    if delta.index > text.next_index:
        text.broken = True
        return None
    text.next_index += 1
    return _told(delta, replace=False)


def _told(delta: v1.MessageDelta, *, replace: bool, text: str | None = None) -> TextDelta:
    shown = delta.text if text is None else text
    return TextDelta(delta.turn_id, delta.message_id, delta.attempt, delta.channel, shown, replace, delta.call_id)
