"""An answer put together from the chunks of an OpenAI-compatible stream; pure, and bounded in size.

What endpoints do and this bears: keys left out instead of null, ids and names repeated in every piece or given
once, several calls interleaved, one index for several calls with ids of their own, arguments as an object,
choices empty or with an empty delta beside the usage, a whole `message` where a `delta` belongs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Final

import orjson

from agent_runtime import v1
from agent_runtime_server.core.errors import ModelRejected, ModelUnavailable
from agent_runtime_server.llm.base import Channel, Delta, ModelAnswer, RequestedCall
from agent_runtime_server.llm.failures import reported_failure

LARGEST_ANSWER: Final = 16 * 1024 * 1024  # characters of text, reasoning and arguments together
MOST_CALLS: Final = 256
_LONGEST_NAME: Final = 256
_MOST_TOKENS: Final = 2**53


class Assembler:
    """Takes the decoded chunks of one answer in order; gives their deltas, joined or not, and at the end the answer."""

    def __init__(
        self, largest_answer: int = LARGEST_ANSWER, most_calls: int = MOST_CALLS, *, joins: bool = True
    ) -> None:
        self._room = largest_answer
        self._most_calls = most_calls
        self._joins = joins
        self._text = StringIO()
        self._reasoning = StringIO()
        self._calls: list[_Call] = []
        self._at_index: dict[int, int] = {}  # the endpoint's index of a call -> its place in _calls
        self._fresh: list[_Run] = []
        self._usage: Mapping[str, object] = {}
        self._finish_reason = ""
        self._model = ""
        self.begun = False

    @property
    def finished(self) -> bool:
        """True when the endpoint has said why the answer ends."""
        return bool(self._finish_reason)

    def add_texts(self, texts: Sequence[str]) -> None:
        """Take chunks that bring these texts and nothing else."""
        for text in ("".join(texts),) if self._joins else texts:
            self._say(text)

    def add(self, chunk: object) -> None:
        """Take one chunk, or a whole completion; raise what it reports when it is an error."""
        if not isinstance(chunk, dict):
            raise ModelUnavailable("the model endpoint sent a chunk that is not a JSON object")
        if ("error" in chunk or chunk.get("object") == "error") and (failure := reported_failure(chunk)):
            raise failure
        if isinstance(usage := chunk.get("usage"), dict):
            self._usage = usage
        if not self._model and isinstance(model := chunk.get("model"), str):
            self._model = model[:_LONGEST_NAME]
        choices = chunk.get("choices")
        if isinstance(choices, list) and choices:
            self._choice(choices[0])

    def take(self) -> list[Delta]:
        """Return what was added since the last time; joined where pieces of one channel follow."""
        fresh, self._fresh = self._fresh, []
        return [
            Delta(run.channel, text, run.call_index, run.tool_name)
            for run in fresh
            for text in (("".join(run.pieces),) if self._joins else run.pieces)
        ]

    def answer(self, asked_model: str) -> ModelAnswer:
        """Return the whole answer."""
        if not self.begun:
            raise ModelUnavailable("the model endpoint ended its answer without saying anything")
        calls = tuple(call.requested() for call in self._calls)
        return ModelAnswer(
            text=self._text.getvalue(),
            reasoning=self._reasoning.getvalue(),
            calls=calls,
            usage=_usage_of(self._usage),
            finish_reason=self._finish_reason or ("tool_calls" if calls else "stop"),
            model=self._model or asked_model,
        )

    def _choice(self, choice: object) -> None:
        if not isinstance(choice, dict) or choice.get("index", 0) not in (0, None):
            return
        self.begun = True
        if isinstance(delta := choice.get("delta") or choice.get("message"), dict):
            self._delta(delta)
        if isinstance(reason := choice.get("finish_reason"), str) and reason:
            self._finish_reason = reason[:_LONGEST_NAME]

    def _delta(self, delta: Mapping[str, object]) -> None:
        if reasoning := _text_of(delta.get("reasoning_content")) or _text_of(delta.get("reasoning")):
            self._grow(len(reasoning))
            self._reasoning.write(reasoning)
            self._add(Channel.REASONING, reasoning)
        self._say(_text_of(delta.get("content")))
        if isinstance(pieces := delta.get("tool_calls"), list):
            for piece in pieces:
                if isinstance(piece, dict):
                    self._call_piece(piece)

    def _say(self, text: str) -> None:
        if not text:
            return
        self.begun = True
        self._grow(len(text))
        self._text.write(text)
        self._add(Channel.TEXT, text)

    def _add(self, channel: Channel, text: str, call_index: int = 0, tool_name: str = "") -> None:
        """Add a piece to the run it goes on with, or begin one."""
        last = self._fresh[-1] if self._fresh else None
        if last is not None and last.channel is channel and last.call_index == call_index:
            last.pieces.append(text)
            last.tool_name = tool_name
        else:
            self._fresh.append(_Run(channel, call_index, tool_name, [text]))

    def _call_piece(self, piece: Mapping[str, object]) -> None:
        function = piece.get("function")
        function = function if isinstance(function, dict) else {}
        name = _str(function.get("name"))
        place = self._place(piece.get("index"), _str(piece.get("id")), name)
        call = self._calls[place]
        call.name = call.name or name[:_LONGEST_NAME]
        if arguments := _arguments_of(function.get("arguments")):
            self._grow(len(arguments))
            call.arguments.write(arguments)
        if arguments or name:
            self._add(Channel.TOOL_ARGUMENTS, arguments, place, call.name)

    def _place(self, index: object, call_id: str, name: str) -> int:
        place = self._known(index, call_id, name)
        if place is not None:
            self._calls[place].call_id = self._calls[place].call_id or call_id
            return place
        if len(self._calls) == self._most_calls:
            raise ModelRejected(f"the model asked for more than {self._most_calls} tool calls at once")
        self._calls.append(_Call(call_id))
        if isinstance(index, int):
            self._at_index[index] = len(self._calls) - 1
        return len(self._calls) - 1

    def _known(self, index: object, call_id: str, name: str) -> int | None:
        """Return the place of the call that a piece goes on with; None when it begins one."""
        if isinstance(index, int):
            place = self._at_index.get(index)
            if place is None or not name:
                return place
            known_id = self._calls[place].call_id
            return None if call_id and known_id and call_id != known_id else place
        for place, call in enumerate(self._calls):
            if call_id and call.call_id == call_id:
                return place
        return None if name or not self._calls else len(self._calls) - 1

    def _grow(self, size: int) -> None:
        self._room -= size
        if self._room < 0:
            raise ModelRejected("the model's answer is larger than this service accepts")


@dataclass(slots=True)
class _Run:
    """Pieces of one channel that follow each other."""

    channel: Channel
    call_index: int
    tool_name: str
    pieces: list[str]


class _Call:
    """A call while its pieces come in."""

    __slots__ = ("arguments", "call_id", "name")

    def __init__(self, call_id: str) -> None:
        self.call_id = call_id
        self.name = ""
        self.arguments = StringIO()

    def requested(self) -> RequestedCall:
        """Return the finished call."""
        if not self.name:
            raise ModelUnavailable("the model asked for a tool without naming it")
        arguments = self.arguments.getvalue()
        return RequestedCall(self.name, arguments if arguments.strip() else "{}")


def _str(value: object) -> str:
    return value if isinstance(value, str) else ""


def _text_of(content: object) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):  # content as parts
        return "".join(_str(part.get("text")) for part in content if isinstance(part, dict))
    return ""


def _arguments_of(arguments: object) -> str:
    return orjson.dumps(arguments).decode() if isinstance(arguments, dict) else _str(arguments)


def _usage_of(usage: Mapping[str, object]) -> v1.Usage:
    return v1.Usage(
        input_tokens=_count(usage, "prompt_tokens"),
        output_tokens=_count(usage, "completion_tokens"),
        cached_input_tokens=_count(usage.get("prompt_tokens_details"), "cached_tokens"),
        reasoning_tokens=_count(usage.get("completion_tokens_details"), "reasoning_tokens"),
        model_calls=1,
    )


def _count(counts: object, key: str) -> int:
    value = counts.get(key) if isinstance(counts, Mapping) else None
    return min(max(int(value), 0), _MOST_TOKENS) if isinstance(value, int) else 0
