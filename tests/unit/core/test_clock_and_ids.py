"""Where time and chance come in."""

import re
import time

from google.protobuf.timestamp_pb2 import Timestamp

from agent_runtime_server.core.clock import after, from_nanos, now, to_nanos
from agent_runtime_server.core.ids import new_id


def test_the_clock_tells_the_wall_time() -> None:
    before = time.time_ns()
    assert before <= to_nanos(now()) <= time.time_ns()


def test_moments_and_nanoseconds_are_the_same() -> None:
    assert from_nanos(1_500_000_001) == Timestamp(seconds=1, nanos=500_000_001)
    assert to_nanos(from_nanos(1_500_000_001)) == 1_500_000_001


def test_a_moment_later_carries_over() -> None:
    assert after(Timestamp(nanos=900_000_000), 0.2) == Timestamp(seconds=1, nanos=100_000_000)


def test_ids_say_their_kind_and_fit_the_contract() -> None:
    made = new_id("session")
    assert made.startswith("session-")
    assert re.fullmatch(r"[A-Za-z0-9._:-]{1,64}", made)


def test_ids_are_never_the_same() -> None:
    assert len({new_id("x") for _ in range(1000)}) == 1000


def test_ids_sort_by_the_time_they_were_made() -> None:
    first = new_id("x")
    until = time.time_ns() + 2_000_000
    while time.time_ns() < until:
        continue
    assert first < new_id("x")
