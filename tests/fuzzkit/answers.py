"""Broken answers of models: streams and documents as endpoints send them, damaged, and cut into reads at any place.

Of each it is demanded that nothing is raised but the two errors of models, that the cuts change neither the answer nor
whether there is one, that the deltas add up to it, and that what is kept is bounded.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from agent_runtime_server.core.errors import ModelRejected, ModelUnavailable
from agent_runtime_server.llm.assembler import Assembler
from agent_runtime_server.llm.base import Channel, Delta, ModelAnswer
from agent_runtime_server.llm.failures import asked_wait
from agent_runtime_server.llm.intake import Intake
from agent_runtime_server.llm.sse import SseParser

_LONGEST: Final = 20_000  # bytes of a line, of an event, and characters of an answer
_MOST_CALLS: Final = 20
_TEXTS: Final = (
    "", "a", "Grüße", "\u2028", "\x85", "\ufeff", "\0", "data: x", "\n\n", "[DONE]", "\U0001f642" * 9, "x" * 3000, "}{",
    "\\ud800", "true",
)  # fmt: skip
_ODD: Final[Sequence[Any]] = (
    None, True, False, 0, -1, 1, 2**63, -(2**63), 2**64, 1e308, "", "stop", [], {}, [None], [[]], {"a": 1}, "x" * 300,
    {"error": {}}, {"message": None}, [{"text": "part"}, {"text": 1}, 7],
)  # fmt: skip
_NAMES: Final = ("read_file",) * 6 + (None, "", "x" * 300)
_ARGUMENTS: Final = ('{"a":', "1}", "", None, {"k": 1})
_REASONS: Final = (None, None, None, "stop", "tool_calls", "length", "content_filter", "")
_ENDINGS: Final = (b"\n\n", b"\n\n", b"\r\n\r\n", b"\n", b"\r\r", b"\n\r\n", b"")
_PREFIXES: Final = (
    b"data: ", b"data: ", b"data: ", b"data:", b"event: x\ndata: ", b": keep\n\ndata: ", b"id: 1\ndata: ", b"datax: ",
)  # fmt: skip
_FILLINGS: Final = (b"", b"\n", b"\r", b"\n\n", b"data: ", b"\xff", b"\0")
_WAITS: Final = (
    "", "1", "0", "-1", "1.5", "9" * 400, "1e400", "nan", "inf", "Wed, 21 Oct 2015 07:28:00 GMT", "x" * 5000, "\0",
    "Mon, 01 Jan 99999999999999999999 00:00:00 GMT", "Wed, 21 Oct 2015 07:28:00 +9999", "9999-12-31T23:59:59+00:00",
    "0001-01-01T00:00:00+23:59", "1h2m3s", "9" * 300 + "h", "6m0s", "\u0661\u0662", "1ms", "1970-01-01",
)  # fmt: skip
_HEADERS: Final = (
    "retry-after", "retry-after-ms", "x-ratelimit-reset-requests", "x-ratelimit-reset-tokens",
    "x-ratelimit-remaining-requests", "x-ratelimit-remaining-tokens",
)  # fmt: skip
_SPLITS: Final = (1, 2, 3, 7, 40, 1000)


@dataclass(slots=True)
class Answers:
    """What was read, how it ended, and the seeds of what must not be."""

    streams: int = 0
    bytes: int = 0
    endings: Counter[str] = field(default_factory=Counter)
    findings: list[tuple[str, str]] = field(default_factory=list)

    def read(self, seed: str) -> None:
        """Read one stream, in one piece and in many."""
        random = Random(seed)
        stream = _stream(random)
        self.streams += 1
        self.bytes += len(stream)
        try:
            whole, cut = _outcome(stream, [len(stream)]), _outcome(stream, _cuts(stream, random))
            asked_wait(_headers(random))
        except Exception as error:  # noqa: BLE001 - told as a finding
            self.findings.append((seed, f"{type(error).__name__}: {error}"[:300]))
            return
        self.endings[whole if isinstance(whole, str) else "answers"] += 1
        fails = [isinstance(one, str) for one in (whole, cut)]
        if whole != cut and not all(fails):  # where it fails, it may be over the one or the other
            self.findings.append((seed, f"cut into pieces it reads otherwise: {whole!r:.300} and {cut!r:.300}"))


class Lost(Exception):
    """The deltas do not add up, or too much is kept."""


def _outcome(stream: bytes, cuts: Sequence[int]) -> ModelAnswer | str:
    """Return the answer, or the name of the error."""
    parser = SseParser(_LONGEST, _LONGEST)
    intake = Intake(Assembler(_LONGEST, _MOST_CALLS), parser)
    deltas: list[Delta] = []
    start = 0
    try:
        for cut in cuts:
            deltas += intake.feed(stream[start:cut])
            start = cut
            _check_kept(parser)
        deltas += intake.finish()
        answer = intake.answer("asked")
    except (ModelUnavailable, ModelRejected) as error:
        return type(error).__name__
    _check_deltas(deltas, answer)
    return answer


def _check_kept(parser: SseParser) -> None:
    if len(parser._tail) > _LONGEST or sum(map(len, parser._data)) > _LONGEST + 1:
        raise Lost(f"the parser keeps {len(parser._tail)} bytes of a line, {sum(map(len, parser._data))} of an event")


def _check_deltas(deltas: Sequence[Delta], answer: ModelAnswer) -> None:
    for channel, said in ((Channel.TEXT, answer.text), (Channel.REASONING, answer.reasoning)):
        if "".join(delta.text for delta in deltas if delta.channel is channel) != said:
            raise Lost(f"the deltas of {channel} do not add up to what was said")
    for place, call in enumerate(answer.calls):
        pieces = [delta for delta in deltas if delta.channel is Channel.TOOL_ARGUMENTS and delta.call_index == place]
        told = "".join(piece.text for piece in pieces)
        if call.arguments_json != (told if told.strip() else "{}"):
            raise Lost(f"the deltas of call {place} do not add up to its arguments")
    arguments = sum(len(call.arguments_json) for call in answer.calls)
    if len(answer.text) + len(answer.reasoning) + arguments > _LONGEST + 2 * _MOST_CALLS:
        raise Lost("the answer is larger than it may be")


def _cuts(stream: bytes, random: Random) -> list[int]:
    most = random.choice(_SPLITS)
    cuts, place = [], 0
    while place < len(stream):
        place = min(len(stream), place + 1 + int(random.random() * most))  # randrange takes longer than the reading
        cuts.append(place)
    return [*cuts, len(stream)]


def _stream(random: Random) -> bytes:
    """Return the body of an answer."""
    whole = random.random() < 0.1
    body = _encoded(_chunk(random, whole=True), random) if whole else b"".join(_events(random))
    if random.random() < 0.1:
        body = random.choice((b"\xef\xbb\xbf", b"\r\n", b" \n", b"\xff")) + body
    if random.random() < 0.5:
        body = _damaged(body, random)
    return body


def _events(random: Random) -> Iterator[bytes]:
    steady = random.random() < 0.5
    for _ in range(random.choice((0, 1, 3, 10, 40))):
        prefix, ending = (b"data: ", b"\n\n") if steady else (random.choice(_PREFIXES), random.choice(_ENDINGS))
        yield prefix + (_nested(random) if random.random() < 0.01 else _encoded(_chunk(random), random)) + ending
    if random.random() < 0.8:
        yield b"data: [DONE]" + random.choice(_ENDINGS)


def _encoded(chunk: Any, random: Random) -> bytes:
    return json.dumps(chunk, ensure_ascii=random.random() < 0.5).encode(errors="replace")


def _chunk(random: Random, *, whole: bool = False) -> Any:
    if random.random() < 0.02:
        return random.choice(_ODD)
    delta = {
        "content": _text(random, 0.6),
        "reasoning_content": _text(random, 0.2),
        "tool_calls": [_piece(random) for _ in range(random.choice((1, 1, 2, 21)))] if random.random() < 0.3 else None,
    }
    choice = {"index": 0, "message" if whole else "delta": delta, "finish_reason": random.choice(_REASONS)}
    chunk: dict[str, Any] = {"id": "c", "model": "m", "choices": [choice]}
    if random.random() < 0.1:
        chunk["usage"] = {"prompt_tokens": random.choice((1, *_ODD)), "prompt_tokens_details": random.choice(_ODD)}
    return _spoiled(chunk, random) if random.random() < 0.1 else chunk


def _text(random: Random, often: float) -> Any:
    return random.choice(_TEXTS) if random.random() < often else None


def _piece(random: Random) -> Any:
    function = {"name": random.choice(_NAMES), "arguments": random.choice(_ARGUMENTS)}
    index, call_id = random.choice((0, 0, 1, 2, 2**70, None, True)), random.choice(("a", "b", None, ""))
    return {"index": index, "id": call_id, "function": function}


def _nested(random: Random) -> bytes:
    """Return an error in an error in an error, as deep as it may be and deeper."""
    depth = random.choice((3, 200, 990, 1020, 5000))
    opening, ending = random.choice(((b'{"error":', b"}"), (b'{"message":', b"}"), (b"[", b"]")))
    return b'{"error":' + opening * depth + b'"went wrong"' + ending * depth + b"}"


def _spoiled(value: Any, random: Random) -> Any:
    """Put something odd at some place."""
    if isinstance(value, dict) and value and random.random() < 0.8:
        key = random.choice([*value])
        return {**value, key: _spoiled(value[key], random)}
    if isinstance(value, list) and value and random.random() < 0.8:
        return [_spoiled(value[0], random), *value[1:]]
    return random.choice(_ODD)


def _damaged(body: bytes, random: Random) -> bytes:
    for _ in range(random.choice((1, 1, 3))):
        begin = random.randrange(len(body) + 1)
        end = min(len(body), begin + random.choice((0, 1, 5, 200)))
        filling = random.choice((*_FILLINGS, body[begin:end] * 2, random.randbytes(4)))
        body = body[:begin] + filling + body[end:]
    return body


def _headers(random: Random) -> Mapping[str, str]:
    return {name: random.choice(_WAITS) for name in random.sample(_HEADERS, random.randrange(len(_HEADERS)))}


def read_answers(seed: str, streams: int) -> Answers:
    """Read so many broken answers."""
    read = Answers()
    for number in range(streams):
        read.read(f"{seed}.{number}")
    return read
