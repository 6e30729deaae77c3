"""What an endpoint's refusals and reports mean: try again later, or not; and what may be said of them."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final

import orjson

from agent_runtime_server.core.errors import ModelError, ModelRejected, ModelUnavailable

_WORTH_ANOTHER_TRY: Final = frozenset({408, 409, 425, 429})
_KEY_REFUSED: Final = frozenset({401, 403})
_OURS_TO_CHANGE: Final = re.compile(
    r"invalid_request|bad_?request|context_length|authentication|permission|not_found", re.IGNORECASE
)
_NOT_PRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\s]+")
_KEY_LIKE: Final = re.compile(r"\b(?:[sp]k-|Bearer\s)[\w.*-]{6,}", re.IGNORECASE)
_LONGEST_SAYING: Final = 300
_LONGEST_WAIT: Final = timedelta(hours=24)


def status_failure(status: int, body: bytes, retry_after: str | None = None) -> ModelError:
    """Return the error that an HTTP answer other than a success stands for."""
    if status in _KEY_REFUSED:
        return ModelRejected(f"the model endpoint refused the API key (HTTP {status})")
    saying = _saying_of(_decoded(body))
    text = f"the model endpoint answered HTTP {status}{_phrase(status)}" + (f": {saying}" if saying else "")
    if status < HTTPStatus.BAD_REQUEST:
        return ModelRejected(f"{text}; check the base URL")
    if status in _WORTH_ANOTHER_TRY or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return ModelUnavailable(text, retry_delay=retry_delay(retry_after))
    return ModelRejected(text)


def reported_failure(chunk: Mapping[str, object]) -> ModelError | None:
    """Return the error that a chunk of a stream reports, if it reports one."""
    error = chunk.get("error")
    if not error and chunk.get("object") == "error":
        error = chunk
    if not error:
        return None
    saying = _saying_of(chunk) or "no reason given"
    code, kind = _code_and_kind(error)
    if code in _KEY_REFUSED:
        return status_failure(code, b"")
    text = f"the model endpoint failed while answering: {saying}"
    ours = HTTPStatus.BAD_REQUEST <= code < HTTPStatus.INTERNAL_SERVER_ERROR and code not in _WORTH_ANOTHER_TRY
    if ours or (not code and _OURS_TO_CHANGE.search(kind)):
        return ModelRejected(text)
    return ModelUnavailable(text)


def retry_delay(header: str | None, now: datetime | None = None) -> timedelta | None:
    """Return the wait that a Retry-After header asks for: seconds, or an HTTP date."""
    if not header:
        return None
    wait = _seconds(header)
    if wait is None:
        wait = _until(header, now or datetime.now(UTC))
    return None if wait is None else min(max(wait, timedelta(0)), _LONGEST_WAIT)


def _seconds(header: str) -> timedelta | None:
    if not re.fullmatch(r"\d{1,9}(\.\d{1,9})?", header.strip()):
        return None
    return timedelta(seconds=float(header))


def _until(header: str, now: datetime) -> timedelta | None:
    try:
        moment = parsedate_to_datetime(header)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - now


def _phrase(status: int) -> str:
    try:
        return f" {HTTPStatus(status).phrase}"
    except ValueError:
        return ""


def _decoded(body: bytes) -> object:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        text = body.decode(errors="replace").strip()
        return "" if text.startswith("<") else text  # a proxy's web page says nothing worth repeating


def _saying_of(body: object) -> str:
    """Return the one line of a body that says what is wrong, fit to be shown."""
    if isinstance(body, list) and body:
        body = body[0]
    if isinstance(body, Mapping):
        inner = body.get("error") or body.get("message") or body.get("detail") or ""
        return _saying_of(inner) if isinstance(inner, str | Mapping | list) else ""
    if not isinstance(body, str):
        return ""
    clean = _KEY_LIKE.sub("***", _NOT_PRINTABLE.sub(" ", body)).strip()
    return clean if len(clean) <= _LONGEST_SAYING else clean[:_LONGEST_SAYING] + "…"


def _code_and_kind(error: object) -> tuple[int, str]:
    if not isinstance(error, Mapping):
        return 0, ""
    code, kind = error.get("code"), error.get("type")
    number = str(code) if isinstance(code, int | str) else ""
    status = int(number) if re.fullmatch(r"[1-5]\d\d", number) else 0
    return status, f"{code} {kind}"
