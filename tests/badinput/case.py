"""One piece of bad input, and what the caller must be told."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from google.protobuf.message import Message

from agent_runtime import v1
from agent_runtime_server.core.errors import CODES

MEBIBYTE = 1 << 20
ANY_FIELD = "*"


@dataclass(frozen=True, slots=True)
class Facts:
    """What bad input may have to name to be bad in one way only."""

    approval_id: str
    arguments_sha256: str
    asked_call_id: str
    dispatched_call_id: str


Input: TypeAlias = Message | bytes | Callable[[Facts], Message]


@dataclass(frozen=True, slots=True)
class Told:
    """The error a caller must receive; an empty reason is an error of gRPC itself."""

    code: int
    reason: str = ""
    field: str | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """An input, where it goes, and the error it must give."""

    name: str
    where: str
    """An RPC such as SessionService.GetSession, or for frames the session of the stream."""
    input: Input
    told: Told

    def made(self, facts: Facts) -> bytes:
        """Return the bytes to send."""
        made = self.input(facts) if callable(self.input) else self.input
        return made if isinstance(made, bytes) else made.SerializeToString()


def refused(reason: str, field: str | None = None) -> Told:
    """Return the error of a reason of the contract."""
    return Told(CODES[v1.ErrorReason.Value(f"ERROR_REASON_{reason}")], reason, field)


def invalid(field: str = ANY_FIELD) -> Told:
    """Return the error of an invalid field."""
    return refused("VALIDATION_FAILED", field)


NO_PROTOBUF = {
    "bytes that are no protobuf": b"\xff\xff\xff\xff\xff\xff\xff\xff",
    "a message cut off": b"\x0a\x10abc",
    "a group that never ends": b"\x0b",
    "a number that never ends": b"\x08" + b"\xff" * 11,
    "half a megabyte of noise": bytes(range(255, 0, -1)) * 2056,
}
