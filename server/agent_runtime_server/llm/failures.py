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
_NOT_HERE: Final = frozenset({402, 404, 405, 413})  # no credit, no such model or path, too large: true of this endpoint
_OURS_TO_CHANGE: Final = re.compile(
    r"invalid_request|bad_?request|context_length|authentication|permission|not_found", re.IGNORECASE
)
_NOT_PRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\s]+")
_KEY_LIKE: Final = re.compile(r"\b(?:[sp]k-|Bearer\s)[\w.*-]{6,}", re.IGNORECASE)
_TOO_LONG: Final = re.compile(r"context_length|context_window|too many tokens|maximum context", re.IGNORECASE)
_NUMBER: Final = re.compile(r"\d{1,9}(\.\d{1,9})?")
_LIMITS: Final = ("requests", "tokens")
_AMOUNT: Final = r"(\d{1,9}(?:\.\d{1,9})?)"
_DURATION: Final = re.compile(rf"(?:{_AMOUNT}h)?(?:{_AMOUNT}m)?(?:{_AMOUNT}s)?(?:{_AMOUNT}ms)?")
_UNITS: Final = (timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1), timedelta(milliseconds=1))
_LONGEST_SAYING: Final = 300
_DEEPEST_SAYING: Final = 8  # of an error in an error in a list
_LONGEST_WAIT: Final = timedelta(hours=24)


def status_failure(status: int, body: bytes, headers: Mapping[str, str] | None = None) -> ModelError:
    """Return the error that an HTTP answer other than a success stands for."""
    kind = f"http_{status}"
    if status in _KEY_REFUSED:
        return ModelRejected(f"the model endpoint refused the API key (HTTP {status})", kind=kind, elsewhere=True)
    decoded = _decoded(body)
    saying = _saying_of(decoded)
    text = f"the model endpoint answered HTTP {status}{_phrase(status)}" + (f": {saying}" if saying else "")
    if status < HTTPStatus.BAD_REQUEST:
        return ModelRejected(f"{text}; check the base URL", kind=kind, elsewhere=True)
    if status in _WORTH_ANOTHER_TRY or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return ModelUnavailable(text, kind=kind, retry_delay=asked_wait(headers or {}))
    return ModelRejected(text, kind=kind, elsewhere=status in _NOT_HERE or _says_too_long(decoded))


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
        return ModelRejected(text, elsewhere=code in _NOT_HERE or _says_too_long(chunk))
    return ModelUnavailable(text, kind=f"http_{code}" if code else "reported")


def asked_wait(headers: Mapping[str, str], now: datetime | None = None) -> timedelta | None:
    """Return the wait that an answer's headers ask for: Retry-After, else when its limits are filled up again."""
    milliseconds = headers.get("retry-after-ms", "")
    if _NUMBER.fullmatch(milliseconds.strip()):
        return min(timedelta(milliseconds=float(milliseconds)), _LONGEST_WAIT)
    if (wait := retry_delay(headers.get("retry-after"), now)) is not None:
        return wait
    resets = {name: wait for name in _LIMITS if (wait := _reset(headers.get(f"x-ratelimit-reset-{name}", ""), now))}
    spent = [wait for name, wait in resets.items() if headers.get(f"x-ratelimit-remaining-{name}", "").strip() == "0"]
    return max(spent or resets.values(), default=None)


def _reset(text: str, now: datetime | None) -> timedelta | None:
    """Return the wait a limit's reset tells: seconds, a duration such as 1m3.5s, or a moment."""
    text = text.strip()
    if text and (parts := _DURATION.fullmatch(text)):
        sizes = zip(_UNITS, parts.groups(), strict=True)
        return min(sum((unit * float(size) for unit, size in sizes if size), timedelta(0)), _LONGEST_WAIT)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return retry_delay(text, now)
    wait = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - (now or datetime.now(UTC))
    return min(max(wait, timedelta(0)), _LONGEST_WAIT)


def retry_delay(header: str | None, now: datetime | None = None) -> timedelta | None:
    """Return the wait that a Retry-After header asks for: seconds, or an HTTP date."""
    if not header:
        return None
    wait = _seconds(header)
    if wait is None:
        wait = _until(header, now or datetime.now(UTC))
    return None if wait is None else min(max(wait, timedelta(0)), _LONGEST_WAIT)


def _seconds(header: str) -> timedelta | None:
    if not _NUMBER.fullmatch(header.strip()):
        return None
    return timedelta(seconds=float(header))


def _until(header: str, now: datetime) -> timedelta | None:
    try:
        moment = parsedate_to_datetime(header)
    except (ValueError, OverflowError):
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
    for _ in range(_DEEPEST_SAYING):
        if isinstance(body, list) and body:
            body = body[0]
        elif isinstance(body, Mapping):
            body = body.get("error") or body.get("message") or body.get("detail")
        else:
            break
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


def _says_too_long(body: object) -> bool:
    error = body.get("error", body) if isinstance(body, Mapping) else None
    told = f"{error.get('code')} {error.get('message')}" if isinstance(error, Mapping) else ""
    return _TOO_LONG.search(told) is not None
