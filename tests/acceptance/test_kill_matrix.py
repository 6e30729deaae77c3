"""The kill matrix, short: whatever is killed, cut or stalled, and whenever, nothing is lost, nothing is done twice."""

import os
import sys
from pathlib import Path
from typing import Final

import pytest

from agent_runtime_server.embedded import scratch_state_dir
from killkit.faults import Kind, plan
from killkit.matrix import Outcome, run_matrix
from killkit.report import table
from killkit.world import Size

SEED: Final = int(os.environ.get("AGENT_RUNTIME_TEST_SEED", "7"))
HURRIED: Final = Size(clients=2, lease_seconds=2, heartbeat_seconds=1, silence_seconds=3)


async def matrix(folder: Path, runs: int, kinds: tuple[Kind, ...], *, worlds: int = 1, size: Size = HURRIED) -> Outcome:
    faults = plan(runs, SEED, kinds)
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
        outcome = await matrix(folder, 62, tuple(Kind), worlds=2)
    assert outcome.clean, table(outcome)
    assert {struck.fault.kind for struck in outcome.struck} == set(Kind)
    assert len(outcome.struck) == 62
