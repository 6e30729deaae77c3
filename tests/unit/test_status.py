"""What a caller receives for each error."""

from datetime import timedelta
from typing import Any, TypeVar

import pytest
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, QuotaFailure, RequestInfo, RetryInfo
from google.rpc.status_pb2 import Status
from hypothesis import given
from hypothesis import strategies as st

from agent_runtime import v1
from agent_runtime_server.core.errors import CODES, Bug, CallerError, StoreUnavailable, ValidationFailed, violation
from agent_runtime_server.rpc.status import MOST_BYTES, cut, to_status

Detail = TypeVar("Detail", bound=Message)


def detail(status: Status, kind: type[Detail]) -> Detail | None:
    found = kind()
    return next((found for packed in status.details if packed.Unpack(found)), None)


def the(status: Status, kind: type[Any]) -> Any:
    found = detail(status, kind)
    assert found is not None
    return found


@pytest.mark.parametrize("reason", CODES)
def test_every_reason_has_its_code_and_its_name(reason: v1.ErrorReason.ValueType) -> None:
    status = to_status(CallerError(reason, "text", metadata={"headSeq": "7"}))
    info = the(status, ErrorInfo)
    assert (status.code, status.message) == (CODES[reason], "text")
    assert f"ERROR_REASON_{info.reason}" == v1.ErrorReason.Name(reason)
    assert (info.domain, dict(info.metadata)) == ("agent_runtime.v1", {"headSeq": "7"})


def test_violations_are_told_as_a_bad_request() -> None:
    found = violation("user_message.parts[0].text", "string.max_bytes", "is too long")
    (told,) = the(to_status(ValidationFailed([found])), BadRequest).field_violations
    assert (told.field, told.description) == ("user_message.parts[0].text", "is too long")
    assert told.reason == "STRING_MAX_BYTES"


def test_a_retry_delay_is_told_and_never_shorter_than_asked_for() -> None:
    status = to_status(StoreUnavailable("down", retry_delay=timedelta(milliseconds=1500)))
    told = the(status, RetryInfo).retry_delay.ToTimedelta()
    assert timedelta(seconds=1.5) <= told <= timedelta(seconds=4.5)


def test_the_delay_of_a_quota_is_told_as_it_is_with_little_on_top() -> None:
    error = CallerError(v1.ERROR_REASON_QUOTA_EXCEEDED, "too fast", retry_delay=timedelta(seconds=60))
    told = the(to_status(error), RetryInfo).retry_delay.ToTimedelta()
    assert timedelta(seconds=60) <= told <= timedelta(seconds=66)


def test_a_quota_is_named() -> None:
    error = CallerError(v1.ERROR_REASON_QUOTA_EXCEEDED, "too fast", metadata={"subject": "tenant:a", "quota": "turns"})
    (told,) = the(to_status(error), QuotaFailure).violations
    assert (told.subject, told.quota_id, told.description) == ("tenant:a", "turns", "too fast")


def test_a_bug_names_the_request_and_nothing_else() -> None:
    status = to_status(Bug(), correlation_id="c-1")
    assert the(status, RequestInfo).request_id == "c-1"
    assert status.message == "internal error"


def test_others_name_no_request() -> None:
    assert detail(to_status(StoreUnavailable("down"), correlation_id="c-1"), RequestInfo) is None


texts = st.text(max_size=4000)


@given(
    texts,
    st.dictionaries(st.text(max_size=300), texts, max_size=20),
    st.lists(st.tuples(texts, st.text(max_size=30), texts), min_size=1, max_size=64),
)
def test_a_status_stays_small(message: str, metadata: dict[str, str], found: list[tuple[str, str, str]]) -> None:
    violations = [violation(*each) for each in found]
    error = CallerError(
        v1.ERROR_REASON_QUOTA_EXCEEDED,
        message,
        metadata=metadata,
        violations=violations,
        retry_delay=timedelta(seconds=1),
    )
    assert to_status(error, correlation_id="c" * 128).ByteSize() <= MOST_BYTES


@given(st.text(), st.integers(min_value=3, max_value=50))
def test_cut_text_fits_and_begins_as_before(text: str, most: int) -> None:
    short = cut(text, most)
    assert len(short.encode()) <= most
    assert text.startswith(short.removesuffix("…")) or short == text
