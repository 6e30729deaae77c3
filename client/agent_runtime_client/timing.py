"""The dials of time, and the delays between attempts."""

import random
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """How long to wait for what, in seconds; the contract's values unless told otherwise."""

    ping_seconds: float = 30.0
    """Longest silence of this side on a stream."""
    silence_seconds: float = 45.0
    """Longest silence of the server before a stream is taken for dead."""
    backoff_first: float = 0.2
    backoff_factor: float = 1.6
    backoff_most: float = 10.0
    jitter: float = 0.2
    """Share by which each delay is spread, up and down."""
    call_seconds: float = 30.0
    """Longest wait for the answer of a unary call."""
    refused_seconds: float = 180.0
    """Longest time to send a frame again and again that the server does not take now: for a dependency is away, or a
    quota used up."""
    refused_call_seconds: float = 30.0
    """Longest time to make a unary call again and again that is refused so; it fails at once when it takes longer."""
    close_seconds: float = 2.0
    """Longest wait at close for results of stopped tools to be confirmed."""


class Backoff:
    """Delays that grow with each failed attempt until something works again."""

    def __init__(self, timing: Timing, spread: Callable[[float, float], float] = random.uniform) -> None:
        self._timing = timing
        self._spread = spread
        self._failures = 0

    def reset(self) -> None:
        """Start small again."""
        self._failures = 0

    def next_delay(self, asked: float | None = None) -> float:
        """Return the delay before the next attempt; one the server asked for wins over ours."""
        timing = self._timing
        # Beyond 64 steps the ceiling holds for any factor above one; the cap keeps the power finite.
        ours = timing.backoff_first * timing.backoff_factor ** min(self._failures, 64)
        self._failures += 1
        if asked is not None and asked > 0:
            # Never earlier than asked, so this jitter only adds.
            return asked * self._spread(1.0, 1.0 + timing.jitter)
        return min(ours, timing.backoff_most) * self._spread(1 - timing.jitter, 1 + timing.jitter)
