"""How long to try again what the server does not take just now: something it needs is away, or a quota is used up."""

import time
from collections.abc import Callable
from typing import Final

import grpc

from agent_runtime import v1
from agent_runtime_client.status import Problem
from agent_runtime_client.timing import Backoff, Timing

_UNAVAILABLE: Final = 14
_QUOTA: Final = "QUOTA_EXCEEDED"
_NOT_NOW: Final = (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)


class Patience:
    """Says when to send a refused frame again, and when enough is enough."""

    def __init__(self, timing: Timing, now: Callable[[], float] = time.monotonic) -> None:
        self._most_seconds = timing.refused_seconds
        self._backoff = Backoff(timing)
        self._now = now
        self._since: dict[str, float] = {}

    def delay(self, ack: v1.FrameAck) -> float | None:
        """Return after how many seconds to send the frame again, None when its refusal is final."""
        if ack.outcome != v1.FrameAck.OUTCOME_REJECTED or not ack.error.HasField("retry_delay"):
            return None
        quota = is_quota(ack.error)
        if ack.error.code != _UNAVAILABLE and not quota:
            return None
        asked = ack.error.retry_delay.seconds + ack.error.retry_delay.nanos / 1e9
        waited = self._now() - self._since.setdefault(ack.frame_id, self._now())
        if waited + (asked if quota else 0) > self._most_seconds:
            return None
        return asked if quota else max(asked, self._backoff.next_delay())

    def end(self, frame_id: str) -> None:
        """Note that a frame is settled; what is away has come back, or nobody waits for it."""
        self._since.pop(frame_id, None)
        if not self._since:
            self._backoff.reset()


class CallPatience:
    """Says when to make one refused unary call again, and when enough is enough."""

    def __init__(self, timing: Timing, now: Callable[[], float] = time.monotonic) -> None:
        self._end = now() + timing.refused_call_seconds
        self._backoff = Backoff(timing)
        self._now = now

    def delay(self, problem: Problem) -> float | None:
        """Return after how many seconds to make the call again, None when its failure is final."""
        asked = problem.retry_delay
        if asked is None or problem.code not in _NOT_NOW:
            return None
        quota = problem.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        wait = asked if quota else max(asked, self._backoff.next_delay())
        return wait if self._now() + wait <= self._end else None


def is_quota(error: v1.Error) -> bool:
    """Tell whether a frame was refused because its sender has used up a quota."""
    return error.reason == _QUOTA
