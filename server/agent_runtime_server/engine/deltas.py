"""Text that is being written: gathered a little, numbered for all observers, kept until its message is committed."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from agent_runtime import v1
from agent_runtime_server.engine.turn import TakeStep
from agent_runtime_server.llm.base import Channel, Delta

_CHANNELS = {
    Channel.TEXT: v1.MessageDelta.CHANNEL_TEXT,
    Channel.REASONING: v1.MessageDelta.CHANNEL_REASONING,
    Channel.TOOL_ARGUMENTS: v1.MessageDelta.CHANNEL_TOOL_ARGUMENTS,
}


class Show(Protocol):
    """Shows deltas to all observers."""

    def __call__(self, *deltas: v1.MessageDelta) -> None:
        """Show them in this order."""
        ...


@dataclass(slots=True)
class _Text:
    """The text of one channel: what was shown, and what still gathers."""

    channel: Channel
    call_id: str
    shown: list[str] = field(default_factory=list)
    gathered: list[str] = field(default_factory=list)
    index: int = -1


class Writing:
    """The deltas of one model step: the first at once, then what gathered in each window.

    It also names the message and its calls, so that deltas and the committed events agree.
    """

    def __init__(
        self,
        step: TakeStep,
        new_id: Callable[[str], str],
        show: Show,
        window_seconds: float,
    ) -> None:
        self.message_id = new_id("msg")
        self.size = 0  # of the text so far
        self._step = step
        self._new_id = new_id
        self._show = show
        self._window = window_seconds
        self._flushed = float("-inf")
        self._texts: dict[tuple[Channel, int], _Text] = {}
        self._call_ids: dict[int, str] = {}
        self._timer: asyncio.TimerHandle | None = None

    def call_id(self, index: int) -> str:
        """Return the id of the call at `index` of the answer."""
        if index not in self._call_ids:
            self._call_ids[index] = self._new_id("call")
        return self._call_ids[index]

    def __call__(self, deltas: Sequence[Delta]) -> None:
        """Take what one read from the model brought."""
        self.size += sum(len(delta.text) for delta in deltas)
        if not self._window:
            self._show(*[self._more(self._text(delta), delta.text) for delta in deltas])
            return
        for delta in deltas:
            self._text(delta).gathered.append(delta.text)
        if self._timer is None:
            self._flush_in(self._window)

    def _text(self, delta: Delta) -> _Text:
        key = (delta.channel, delta.call_index)
        if key not in self._texts:
            is_call = delta.channel is Channel.TOOL_ARGUMENTS
            self._texts[key] = _Text(delta.channel, self.call_id(delta.call_index) if is_call else "")
        return self._texts[key]

    def _flush_in(self, window: float) -> None:
        """Flush when a window has passed since the last time; at once if it has, or as good as has."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        wait = self._flushed + window - now
        if wait <= window / 8:
            self._flushed = now
            self.flush()
        else:
            self._timer = loop.call_later(wait, self._window_ended)

    def _window_ended(self) -> None:
        self._timer = None
        self._flush_in(0)

    def flush(self) -> None:
        """Show what has gathered."""
        gathered = [text for text in self._texts.values() if text.gathered]
        if gathered:
            self._show(*[self._more(text, "".join(text.gathered)) for text in gathered])

    def _more(self, text: _Text, content: str) -> v1.MessageDelta:
        text.gathered.clear()
        text.shown.append(content)
        text.index += 1
        return self._delta(text, content, replace=False)

    def close(self) -> None:
        """Stop the timer; what still gathers is not shown any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def so_far(self) -> Iterable[v1.MessageDelta]:
        """Return all text shown, as replacing deltas."""
        for text in self._texts.values():
            if text.shown:
                text.shown = ["".join(text.shown)]
                yield self._delta(text, text.shown[0], replace=True)

    def _delta(self, text: _Text, content: str, *, replace: bool) -> v1.MessageDelta:
        return v1.MessageDelta(
            turn_id=self._step.turn_id,
            message_id=self.message_id,
            attempt=self._step.attempt,
            channel=_CHANNELS[text.channel],
            index=text.index,
            text=content,
            replace=replace,
            call_id=text.call_id,
        )
