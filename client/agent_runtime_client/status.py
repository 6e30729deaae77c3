"""How an RPC ended, read from gRPC's status and its details."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

_DETAILS_KEY: Final = "grpc-status-details-bin"


@dataclass(frozen=True, slots=True)
class Problem:
    """The status of an RPC with the details the contract defines."""

    code: grpc.StatusCode
    message: str = ""
    reason: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    retry_delay: float | None = None
    violations: tuple[tuple[str, str], ...] = ()

    @property
    def leaves(self) -> bool:
        """Whether the server is about to go, so that another one may answer at once."""
        return self.reason == "SERVER_DRAINING"

    def describe(self) -> str:
        """Return one line for a human."""
        text = f"{self.reason or self.code.name}: {self.message}" if self.message else self.reason
        fields = "; ".join(f"{name}: {description}" for name, description in self.violations)
        return f"{text or self.code.name} ({fields})" if fields else text or self.code.name


def problem_of(error: grpc.aio.AioRpcError) -> Problem:
    """Read how the RPC ended."""
    reason, metadata, delay, violations = "", {}, None, []
    for detail in _details(error):
        info, retry, bad = (
            error_details_pb2.ErrorInfo(),
            error_details_pb2.RetryInfo(),
            error_details_pb2.BadRequest(),
        )
        if detail.Unpack(info):
            reason, metadata = info.reason, dict(info.metadata)
        elif detail.Unpack(retry):
            delay = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
        elif detail.Unpack(bad):
            violations += [(item.field, item.description) for item in bad.field_violations]
    return Problem(error.code(), error.details() or "", reason, metadata, delay, tuple(violations))


def _details(error: grpc.aio.AioRpcError) -> list[Any]:
    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS_KEY and isinstance(value, bytes):
            try:
                return list(status_pb2.Status.FromString(value).details)
            except DecodeError:
                # A proxy may cut trailers; the code alone still decides.
                return []
    return []
