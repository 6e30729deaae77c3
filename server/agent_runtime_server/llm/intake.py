"""The bytes of an answer, streamed or not, turned into an answer; pure."""

from typing import Final

import orjson

from agent_runtime_server.core.errors import ModelUnavailable
from agent_runtime_server.llm.assembler import LARGEST_ANSWER, Assembler
from agent_runtime_server.llm.base import Delta, ModelAnswer
from agent_runtime_server.llm.pattern import Pattern
from agent_runtime_server.llm.sse import DONE, SseOverflow, SseParser

_BLANK: Final = b" \t\r\n"
_LARGEST_DOCUMENT: Final = 2 * LARGEST_ANSWER


class Intake:
    """Takes the body of a completion as it comes; tells a stream from one JSON document by its first byte."""

    def __init__(self, assembler: Assembler | None = None, parser: SseParser | None = None) -> None:
        self._assembler = assembler or Assembler()
        self._parser = parser or SseParser()
        self._pattern = Pattern()
        self._document: bytearray | None = None
        self._sniffed = False
        self._received = 0
        self.events = 0  # grows with everything heard that is more than a sign of life
        self.begun = False  # something was said
        self.done = False  # the endpoint said that nothing follows

    @property
    def finished(self) -> bool:
        """True when nothing that still may come changes what the model said."""
        return self.done or self._assembler.finished

    def feed(self, data: bytes) -> list[Delta]:
        """Take what one read brought and return its deltas."""
        self._received += len(data)
        if not self._sniffed:
            data = self._sniff(data)
        if self._document is not None:
            self._hold(data)
            return []
        try:
            self._events(self._parser.feed(data))
        except SseOverflow as overflow:
            raise ModelUnavailable(f"the model endpoint's stream is malformed: {overflow}") from overflow
        deltas = self._assembler.take()
        self.begun = self.begun or bool(deltas)
        return deltas

    def finish(self) -> list[Delta]:
        """Take note that the body has ended and return the deltas that were left; raise if it was cut."""
        if self._document is not None:
            self._whole(bytes(self._document))
        elif not self.finished:
            self._last_event()
        return self._assembler.take()

    def answer(self, asked_model: str) -> ModelAnswer:
        """Return the whole answer."""
        return self._assembler.answer(asked_model)

    def _sniff(self, data: bytes) -> bytes:
        data = data.lstrip(_BLANK)
        if data:
            self._sniffed = True
            self._document = bytearray() if data[:1] in (b"{", b"[") else None
        return data

    def _hold(self, data: bytes) -> None:
        if self._document is not None and data:
            self._document += data
            self.events += 1
            self.begun = True
        if self._received > _LARGEST_DOCUMENT:
            raise ModelUnavailable("the model endpoint's answer is larger than this service accepts")

    def _events(self, events: list[bytes]) -> None:
        taken = 0
        while taken < len(events) and not self.done:
            texts = self._pattern.texts(events, taken)
            if texts:
                self._assembler.add_texts(texts)
            else:
                self._event(events[taken])
            taken += len(texts) or 1
        self.events += taken

    def _event(self, event: bytes) -> None:
        if event.strip() == DONE:
            self.done = True
        elif event:
            chunk = _decoded(event)
            self._assembler.add(chunk)
            self._pattern.learn(event, chunk)

    def _whole(self, document: bytes) -> None:
        self._assembler.add(_decoded(document))
        self.done = True

    def _last_event(self) -> None:
        """Some streams end without the blank line after their last event; any other rest is a cut."""
        try:
            self._events(self._parser.finish())
        except ModelUnavailable as cut:
            raise ModelUnavailable("the model endpoint cut its answer off", kind="cut") from cut
        if not self.finished:
            raise ModelUnavailable(
                "the model endpoint cut its answer off"
                if self._assembler.begun
                else "the model endpoint answered with something that is no completion; check the base URL",
                kind="cut",
            )


def _decoded(data: bytes) -> object:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise ModelUnavailable("the model endpoint sent a chunk that is not JSON") from error
