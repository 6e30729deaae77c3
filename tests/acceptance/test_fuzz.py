"""The short version of `scripts/fuzz`: some thousand hostile frames of every kind, for a minute at most."""

import random

import pytest

from fuzzkit.report import table
from fuzzkit.run import Size, run


@pytest.mark.timeout(400)  # the minute is that of the frames; calls that are under way are waited for
async def test_a_server_bears_hostile_frames_of_every_kind() -> None:
    seed = f"{random.getrandbits(32):08x}"
    told: list[str] = []
    outcome = await run(seed, Size(frames=12_000, seconds=60, processes=1), told.append)
    assert not outcome.unmet(), "\n".join([*told, table(outcome)])
    assert outcome.tally.frames > 500, "that nothing was found means something"
    assert outcome.opened > 20
