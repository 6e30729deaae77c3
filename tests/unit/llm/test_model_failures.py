"""What refusals of an endpoint mean."""

from datetime import UTC, datetime, timedelta

import pytest

from agent_runtime_server.core.errors import ModelRejected, ModelUnavailable
from agent_runtime_server.llm.failures import asked_wait, reported_failure, retry_delay, status_failure

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize("status", [302, 400, 401, 402, 403, 404, 405, 413, 422, 451])
def test_a_refusal_of_the_request_itself(status: int) -> None:
    assert isinstance(status_failure(status, b""), ModelRejected)


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504, 529])
def test_a_refusal_worth_another_try(status: int) -> None:
    failure = status_failure(status, b"", {"retry-after": "3"})
    assert isinstance(failure, ModelUnavailable)
    assert failure.retry_delay == timedelta(seconds=3)


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_said_and_nothing_of_the_body(status: int) -> None:
    text = str(status_failure(status, b'{"error":{"message":"Incorrect API key provided: sk-abcdef123456"}}'))
    assert "refused the API key" in text
    assert "sk-abc" not in text


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"error":{"message":"no such model"}}', ": no such model"),
        (b'{"error":"no such model"}', ": no such model"),
        (b'{"message":"a\\n\\tb\\u0000c"}', ": a b c"),
        (b'{"detail":[{"message":"x"}]}', ": x"),
        (b"plain words", ": plain words"),
        (b"<html>an error page</html>", ""),
        (b"", ""),
        (b"[]", ""),
        (b'{"error":{"message":"key sk-abcdefgh12345 is bad"}}', ": key *** is bad"),
        (b'{"error":{"message":7}}', ""),
    ],
)
def test_one_clean_line_of_the_body_is_told(body: bytes, said: str) -> None:
    assert str(status_failure(400, body)) == f"the model endpoint answered HTTP 400 Bad Request{said}"


def test_a_long_body_is_cut() -> None:
    assert len(str(status_failure(400, b"x" * 10_000))) < 400


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None), ("", None), ("soon", None), ("-3", None), ("1e308", None), ("9" * 400, None),
        ("0", 0), ("7", 7), (" 7 ", 7), ("0.5", 0.5), ("999999999", 86400),
        ("Sun, 22 Nov 2026 12:00:30 GMT", 30), ("Sun, 22 Nov 2026 11:00:00 GMT", 0),
        ("Sun, 22 Nov 2026 12:00:30", 30), ("Sun, 99 Nov 2026 12:00:30 GMT", None),
        ("Sun, 22 Nov 20261122112211221122 12:00:30 GMT", None),
    ],
)  # fmt: skip
def test_the_wait_asked_for(header: str | None, seconds: float | None) -> None:
    expected = None if seconds is None else timedelta(seconds=seconds)
    assert retry_delay(header, NOW) == expected


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "9", "x-ratelimit-reset-requests": "1s"}, 9),
        ({"x-ratelimit-reset-requests": "1m3.5s"}, 63.5),
        ({"x-ratelimit-reset-requests": "120ms", "x-ratelimit-reset-tokens": "6m0s"}, 360),
        ({"x-ratelimit-reset-requests": "1s", "x-ratelimit-remaining-requests": "0",
          "x-ratelimit-reset-tokens": "1h", "x-ratelimit-remaining-tokens": "500"}, 1),
        ({"x-ratelimit-reset-tokens": "12"}, 12),
        ({"x-ratelimit-reset-tokens": "2026-11-22T12:00:30Z"}, 30),
        ({"x-ratelimit-reset-tokens": "soon"}, None),
    ],
)  # fmt: skip
def test_the_wait_that_headers_ask_for(headers: dict[str, str], seconds: float | None) -> None:
    assert asked_wait(headers, NOW) == (None if seconds is None else timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("status", "body", "elsewhere"),
    [
        (400, b"", False), (401, b"", True), (404, b"", True), (302, b"", True), (413, b"", True),
        (400, b'{"error": {"code": "context_length_exceeded", "message": "too long"}}', True),
        (400, b'{"error": {"message": "bad tool"}}', False),
    ],
)  # fmt: skip
def test_what_another_endpoint_may_take(status: int, body: bytes, elsewhere: bool) -> None:
    failure = status_failure(status, body)
    assert isinstance(failure, ModelRejected)
    assert failure.elsewhere == elsewhere


def test_a_chunk_without_an_error_reports_none() -> None:
    assert reported_failure({"choices": [], "error": None}) is None


def test_a_refused_key_inside_a_stream_is_said_like_one_before_it() -> None:
    failure = reported_failure({"error": {"message": "key sk-secret-123456", "code": 401}})
    assert isinstance(failure, ModelRejected)
    assert "sk-secret" not in str(failure)


@pytest.mark.parametrize("inner", ["error", "message", "detail"])
def test_an_error_within_very_many_errors_is_an_error(inner: str) -> None:
    report: object = "went wrong"
    for _ in range(1000):  # as deep as JSON may be
        report = {inner: report}
    failure = reported_failure({"error": report})
    assert isinstance(failure, ModelUnavailable)
