"""What to do when a stream ends: the contract's table."""

from dataclasses import dataclass
from typing import Final

import grpc

from agent_runtime_client.errors import CallFailed, call_failed
from agent_runtime_client.status import Problem

_Code = grpc.StatusCode

_TRANSIENT: Final = frozenset(
    {
        _Code.OK,  # an end this side did not ask for
        _Code.CANCELLED,
        _Code.UNKNOWN,
        _Code.DEADLINE_EXCEEDED,
        _Code.INTERNAL,  # also what gRPC makes of a write that races with the server's end
        _Code.UNAVAILABLE,
    }
)


@dataclass(frozen=True, slots=True)
class Retry:
    """Open another stream, after the delay the server asked for or our own."""

    asked_delay: float | None = None


@dataclass(frozen=True, slots=True)
class Refresh:
    """Open another stream at once with fresh credentials; not a second time."""


@dataclass(frozen=True, slots=True)
class Restart:
    """Open another stream at the oldest event that is left; a feed over all sessions goes by the token."""

    after_seq: int
    resume_token: str = ""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Do not come back by itself."""

    error: CallFailed


Verdict = Retry | Refresh | Restart | GiveUp


def judge(problem: Problem, *, refreshed: bool = False) -> Verdict:
    """Say what follows from `problem`; `refreshed` when fresh credentials were tried already."""
    if problem.code in _TRANSIENT:
        return Retry(problem.retry_delay)
    if problem.code is _Code.RESOURCE_EXHAUSTED and problem.retry_delay is not None:
        return Retry(problem.retry_delay)
    if problem.code is _Code.UNAUTHENTICATED and not refreshed:
        return Refresh()
    oldest = problem.metadata.get("oldestSeq", "")
    if problem.reason == "SEQ_COMPACTED" and oldest.isascii() and oldest.isdigit():
        return Restart(max(int(oldest) - 1, 0))
    token = problem.metadata.get("resumeToken", "")
    if problem.reason == "SEQ_COMPACTED" and token:
        return Restart(0, token)
    return GiveUp(call_failed(problem))
