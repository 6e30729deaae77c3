"""From an error of ours to the status a caller receives.

A status travels in HTTP/2 trailers, where proxies stop at 8 kB and grpc at 16: it is kept small here.
"""

import random
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import grpc.aio
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, QuotaFailure, RequestInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from agent_runtime import v1
from agent_runtime_server.core.errors import INTERNAL, ServiceError

DOMAIN: Final = "agent_runtime.v1"
MOST_BYTES: Final = 4000
"""Largest serialised status."""

_LONGEST_MESSAGE: Final = 480  # bytes: it travels a second time, percent-encoded, as grpc-message
_LONGEST_VALUE: Final = 160  # bytes of a metadata value, a path or a description
_MOST_METADATA: Final = 1200  # bytes of all metadata
_SPREAD: Final = 3.0
_QUOTA_SPREAD: Final = 1.1

if TYPE_CHECKING:
    AnyContext = grpc.aio.ServicerContext[Any, Any]


def to_status(error: ServiceError, *, correlation_id: str = "") -> Status:
    """Return the status of an error, with its details, below 4 kB."""
    status = Status(code=error.code, message=cut(str(error), _LONGEST_MESSAGE))
    _add(status, _error_info(error))
    if (delay := told_delay(error)) is not None:
        retry = RetryInfo()
        retry.retry_delay.FromTimedelta(delay)
        _add(status, retry)
    if error.reason == v1.ERROR_REASON_QUOTA_EXCEEDED:
        _add(status, _quota_failure(error))
    if error.code == INTERNAL and correlation_id:
        _add(status, RequestInfo(request_id=correlation_id))
    if error.violations:
        # Last, because it takes the room that is left.
        _add(status, _bad_request(error, MOST_BYTES - status.ByteSize()))
    return status


def end(context: "AnyContext", error: ServiceError, *, correlation_id: str = "") -> None:
    """Let an RPC whose method returns now end with the status of an error.

    Aborting raises instead, and what grpc.aio raises is held by the call that it holds: with the request in its frames
    it would stay until a full collection, and a flood of bad requests would fill the memory.
    """
    told = rpc_status.to_status(to_status(error, correlation_id=correlation_id))
    context.set_trailing_metadata(told.trailing_metadata)
    context.set_code(told.code)
    context.set_details(told.details)


def told_delay(error: ServiceError) -> timedelta | None:
    """Return the delay that one of many callers is told: never shorter, and longer so that not all come at once."""
    if error.retry_delay is None:
        return None
    # What a quota refuses has a moment at which it passes; what is away comes back when it likes.
    most = _QUOTA_SPREAD if error.reason == v1.ERROR_REASON_QUOTA_EXCEEDED else _SPREAD
    return error.retry_delay * random.uniform(1, most)  # noqa: S311 - nobody's secret


def cut(text: str, most: int) -> str:
    """Return the text, shortened to `most` bytes of UTF-8 with an ellipsis when it is longer."""
    encoded = text.encode(errors="replace")
    if len(encoded) <= most:
        return encoded.decode()
    return encoded[: most - 3].decode(errors="ignore") + "…"


def _add(status: Status, detail: Message) -> None:
    packed = AnyMessage()
    packed.Pack(detail)
    status.details.append(packed)


def _error_info(error: ServiceError) -> ErrorInfo:
    info = ErrorInfo(reason=error.wire_reason, domain=DOMAIN)
    room = _MOST_METADATA
    for key, value in error.metadata.items():
        short = cut(value, _LONGEST_VALUE)
        room -= len(key.encode()) + len(short.encode())
        if room >= 0:
            info.metadata[key] = short
    return info


def _quota_failure(error: ServiceError) -> QuotaFailure:
    subject = cut(error.metadata.get("subject", ""), _LONGEST_VALUE)
    quota_id = cut(error.metadata.get("quota", ""), _LONGEST_VALUE)
    description = cut(str(error), _LONGEST_VALUE)
    return QuotaFailure(
        violations=[QuotaFailure.Violation(subject=subject, description=description, quota_id=quota_id)]
    )


def _bad_request(error: ServiceError, room: int) -> BadRequest:
    request = BadRequest()
    room -= 64  # the wrapping Any and its type URL
    for found in error.violations:
        short = BadRequest.FieldViolation(
            field=cut(found.field, _LONGEST_VALUE),
            description=cut(found.description, _LONGEST_VALUE),
            reason=found.rule.upper().replace(".", "_"),
        )
        room -= short.ByteSize() + 4
        if room < 0:
            break
        request.field_violations.append(short)
    return request
