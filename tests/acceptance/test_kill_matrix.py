"""The kill matrix, short: whatever is killed, cut or stalled, and whenever, nothing is lost, nothing is done twice."""

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from agent_runtime_server.embedded import scratch_state_dir
from killkit.faults import SENDING, Fault, Kind, plan
from killkit.matrix import Outcome, run_matrix
from killkit.report import table
from killkit.world import Size

SEED: Final = int(os.environ.get("AGENT_RUNTIME_TEST_SEED", "7"))
HURRIED: Final = Size(clients=2, lease_seconds=2, heartbeat_seconds=1, silence_seconds=3)
SMALL: Final = replace(HURRIED, clients=1, replicas=2, workers=0, patience=5)
DONE_TWICE: Final = {"log", "one effect a command"}
FORGOTTEN: Final = {"one result a call", "real results"}
FORGETFUL: Final = replace(SMALL, clients=5, seats=1, keeps_journal=False)  # none goes on once it was killed


def broken(bug: str) -> Size:
    """Return a world whose servers have a bug on purpose."""
    return replace(SMALL, program=("killkit.broken_server", bug))


def faults(number: int, kind: Kind, boundary: str) -> list[Fault]:
    return [Fault(place, kind, boundary) for place in range(1, number + 1)]


async def matrix(folder: Path, faults: Sequence[Fault], *, worlds: int = 1, size: Size = HURRIED) -> Outcome:
    return await run_matrix(
        folder,
        faults,
        worlds=worlds,
        size=size,
        seed=SEED,
        minutes=5,
        tell=lambda text: print(text, file=sys.stderr),  # noqa: T201 - shown when the test fails
    )


@pytest.mark.timeout(600)
async def test_nothing_is_lost_whatever_is_killed() -> None:
    with scratch_state_dir() as folder:
        outcome = await matrix(folder, plan(64, SEED), worlds=2)
    assert outcome.clean, table(outcome)
    assert {struck.fault.kind for struck in outcome.struck} == set(Kind)
    assert len(outcome.struck) == 64


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("size", "faults", "rules"),
    [
        pytest.param(broken("fencing"), faults(2, Kind.STOP_SERVER, "turn_started"), DONE_TWICE, id="fencing"),
        pytest.param(broken("dedup"), faults(12, Kind.LOST_ACKS, SENDING), {"each frame once"}, id="dedup"),
        pytest.param(FORGETFUL, faults(5, Kind.KILL_CLIENT, "tool_call_started"), FORGOTTEN, id="journal"),
    ],
)
async def test_the_checker_finds_a_bug_that_was_planted(size: Size, faults: Sequence[Fault], rules: set[str]) -> None:
    with scratch_state_dir() as folder:
        outcome = await matrix(folder, faults, size=size)
    assert rules & {violation.rule for violation in outcome.violations}, table(outcome)
