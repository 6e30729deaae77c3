"""Answers in the OpenAI shape: as the chunks of a stream, or as one document."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from agent_runtime_server.mockllm.play import Answer, Call
from agent_runtime_server.mockllm.seen import Seen

MODEL = "mock"
_TOKEN = re.compile(r"\s*\S{1,12}|\s+")


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer on its way out: its id, the second it began in, and the request it answers."""

    answer_id: str
    created: int
    seen: Seen
    answer: Answer

    def tokens(self) -> Iterator[Mapping[str, object]]:
        """Return the delta of each token, in the order in which they are said."""
        for token in _tokens(self.answer.reasoning):
            yield {"reasoning_content": token}
        for token in _tokens(self.answer.text):
            yield {"content": token}
        for index, call in enumerate(self.answer.tool_calls):
            yield {"tool_calls": [self._opening(index, call)]}
            for token in _tokens(arguments_text(call)):
                yield {"tool_calls": [{"index": index, "function": {"arguments": token}}]}

    def chunk(self, delta: Mapping[str, object], finish_reason: str | None = None) -> bytes:
        """Return the event of one chunk."""
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return event(self._head("chat.completion.chunk") | {"choices": [choice]})

    def ending(self) -> Iterator[bytes]:
        """Return the events after the last token."""
        yield self.chunk({}, self.finish_reason)
        if self.seen.wants_usage:
            yield event(self._head("chat.completion.chunk") | {"choices": [], "usage": self.usage})
        yield b"data: [DONE]\n\n"

    def document(self) -> Mapping[str, object]:
        """Return the whole answer as one document."""
        message: dict[str, object] = {"role": "assistant", "content": self.answer.text or None}
        if self.answer.reasoning:
            message["reasoning_content"] = self.answer.reasoning
        if self.answer.tool_calls:
            message["tool_calls"] = [
                self._opening(index, call) | {"function": {"name": call.name, "arguments": arguments_text(call)}}
                for index, call in enumerate(self.answer.tool_calls)
            ]
        choice = {"index": 0, "message": message, "finish_reason": self.finish_reason}
        return self._head("chat.completion") | {"choices": [choice], "usage": self.usage}

    @property
    def finish_reason(self) -> str:
        """Why the answer ends."""
        return self.answer.finish_reason or ("tool_calls" if self.answer.tool_calls else "stop")

    @property
    def usage(self) -> Mapping[str, object]:
        """The token counts: those of the script, or four characters to a token of the prompt."""
        if self.answer.usage is not None:
            return self.answer.usage
        prompt, completion = self.seen.size // 4 + 1, sum(1 for _ in self.tokens())
        return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}

    def _opening(self, index: int, call: Call) -> dict[str, object]:
        call_id = f"call_{self.answer_id.removeprefix('chatcmpl-')}_{index}"
        function = {"name": call.name, "arguments": ""}
        return {"index": index, "id": call_id, "type": "function", "function": function}

    def _head(self, kind: str) -> dict[str, object]:
        return {
            "id": self.answer_id,
            "object": kind,
            "created": self.created,
            "model": self.seen.model,
            "system_fingerprint": MODEL,
        }


def event(data: object) -> bytes:
    """Return one server-sent event."""
    return b"data: " + json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def arguments_text(call: Call) -> str:
    """Return a call's arguments as the text a model would give."""
    return call.arguments if isinstance(call.arguments, str) else json.dumps(call.arguments, ensure_ascii=False)


def _tokens(text: str) -> list[str]:
    return _TOKEN.findall(text)
