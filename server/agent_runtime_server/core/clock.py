"""The clock, as a thing that can be handed in."""

import time
from typing import Protocol

from google.protobuf.timestamp_pb2 import Timestamp


class Clock(Protocol):
    """Tells the wall time."""

    def __call__(self) -> Timestamp:
        """Return the time now."""
        ...


def now() -> Timestamp:
    """Return the wall time of this machine."""
    return from_nanos(time.time_ns() // 1000 * 1000)  # what Postgres keeps


def from_nanos(nanos: int) -> Timestamp:
    """Return the timestamp `nanos` nanoseconds after the epoch."""
    return Timestamp(seconds=nanos // 1_000_000_000, nanos=nanos % 1_000_000_000)


def to_nanos(moment: Timestamp) -> int:
    """Return the nanoseconds from the epoch to `moment`."""
    return moment.seconds * 1_000_000_000 + moment.nanos


def after(moment: Timestamp, seconds: float) -> Timestamp:
    """Return the moment `seconds` later."""
    return from_nanos(to_nanos(moment) + int(seconds * 1_000_000_000))
