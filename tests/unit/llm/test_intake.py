"""Bodies of answers, streamed or not, whole or cut."""

import pytest

from agent_runtime_server.core.errors import ModelUnavailable
from agent_runtime_server.llm.intake import Intake
from agent_runtime_server.llm.sse import SseParser

TEXT = b'data: {"choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'
STOP = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"
BROKEN = b"data: {broken\n\n"
DOCUMENT = b'{"choices":[{"index":0,"message":{"content":"hi"},"finish_reason":"stop"}]}'


def take(body: bytes, size: int) -> Intake:
    intake = Intake()
    for start in range(0, len(body), size):
        intake.feed(body[start : start + size])
    intake.finish()
    return intake


@pytest.mark.parametrize(
    "body",
    [
        TEXT + STOP + DONE,
        TEXT + STOP,
        TEXT + DONE,
        TEXT + STOP + b"data: [DONE]",
        TEXT + STOP.rstrip(),
        b"\r\n" + TEXT + DONE + b'data: {"error":"after the end"}\n\n',
        b": waiting\n\n" + TEXT + DONE,
        DOCUMENT,
        b"\n  " + DOCUMENT + b"\n",
    ],
)
def test_a_complete_body_is_an_answer_however_it_comes(body: bytes) -> None:
    for size in (1, 7, len(body)):
        assert take(body, size).answer("m").text == "hi"


@pytest.mark.parametrize("body", [TEXT, TEXT + STOP[:30], DOCUMENT[:-5], TEXT + BROKEN, b"", b"<html>no</html>"])
def test_a_cut_or_broken_body_is_none(body: bytes) -> None:
    with pytest.raises(ModelUnavailable):
        take(body, len(body) or 1)


def test_a_line_that_is_too_long_ends_it() -> None:
    intake = Intake(parser=SseParser(longest_line=100))
    with pytest.raises(ModelUnavailable, match="malformed"):
        intake.feed(b"data: " + b"x" * 200)


def test_comments_are_no_progress() -> None:
    intake = Intake()
    intake.feed(b": still here\n\n")
    assert (intake.events, intake.begun) == (0, False)
