"""A unary call that is refused for now is made again, for a while, when the server says so."""

from dataclasses import replace
from typing import Any

import grpc
import pytest

from agent_runtime_client import CallFailed, Client, Timing
from agent_runtime_client.patience import CallPatience
from agent_runtime_client.status import Problem
from clientkit.server import ScriptedServer, status

HURRY = Timing(backoff_first=0.01, backoff_most=0.05, jitter=0, call_seconds=5)
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


async def test_it_waits_as_long_as_it_is_asked_to(server: ScriptedServer, client: Client) -> None:
    server.refusals += [
        status(EXHAUSTED, "QUOTA_EXCEEDED", retry_delay=0.02),
        status(UNAVAILABLE, "DEPENDENCY_UNAVAILABLE", retry_delay=0.01),
        status(EXHAUSTED, "QUOTA_EXCEEDED", retry_delay=0.01),
    ]
    assert (await client.get_session("s1")).session_id == "s1"
    assert not server.refusals


async def test_a_wait_that_is_too_long_is_not_begun(server: ScriptedServer) -> None:
    server.refusals += [status(EXHAUSTED, "QUOTA_EXCEEDED", retry_delay=0.9)] * 2
    async with Client(server.target, timing=replace(HURRY, refused_call_seconds=0.5)) as client:
        with pytest.raises(CallFailed, match="QUOTA_EXCEEDED") as caught:
            await client.get_session("s1")
    assert caught.value.problem.retry_delay == 0.9
    assert len(server.refusals) == 1


@pytest.mark.parametrize(
    "final",
    [
        status(EXHAUSTED, "FRAME_TOO_LARGE"),
        status(grpc.StatusCode.INVALID_ARGUMENT, "VALIDATION_FAILED", retry_delay=0.01),
        status(grpc.StatusCode.ABORTED, "APPROVAL_STALE", retry_delay=0.01),
    ],
    ids=["no delay", "the caller's fault", "another state"],
)
async def test_what_no_waiting_helps_is_told_at_once(server: ScriptedServer, client: Client, final: Any) -> None:
    server.refusals.append(final)
    with pytest.raises(CallFailed):
        await client.get_session("s1")


def test_all_waits_together_have_an_end() -> None:
    seconds = 100.0
    patience = CallPatience(replace(HURRY, refused_call_seconds=10), lambda: seconds)
    waits = []
    while (wait := patience.delay(Problem(EXHAUSTED, retry_delay=3))) is not None:
        waits.append(wait)
        seconds += wait
    assert waits == [3, 3, 3]


def test_what_is_away_is_asked_ever_more_seldom() -> None:
    patience = CallPatience(replace(HURRY, refused_call_seconds=10), lambda: 0)
    waits = [patience.delay(Problem(UNAVAILABLE, retry_delay=0.02)) or 0 for _ in range(8)]
    assert waits == sorted(waits)
    assert waits[0] == 0.02
    assert waits[-1] == HURRY.backoff_most
