"""How long calls wait beside a tenant that makes fifty times as many: a simulation in a time of its own."""

import heapq
import random
from itertools import count

import pytest

from agent_runtime_server.core.fair import FairQueue

PLACES, OTHERS, NOISE = 50, 10, 50
COST = 3


def took(*, noisy: bool, seconds: float = 400) -> list[float]:
    """Return how long the others' calls took, waits included, the shortest first."""
    chance, numbers = random.Random(1), count()
    queue: FairQueue[tuple[str, float]] = FairQueue()
    coming: list[tuple[float, int, str, float | None]] = []  # when, order, whose, and since when if it is an end
    free, noisy_ones, seen = PLACES, 0, list[float]()

    def later(now: float, wait: float, tenant: str, since: float | None = None) -> None:
        heapq.heappush(coming, (now + wait, next(numbers), tenant, since))

    for tenant in [f"other-{number}" for number in range(OTHERS)] + ["noisy"] * noisy:
        later(0, chance.random(), tenant)
    while coming[0][0] < seconds:
        now, _, tenant, since = heapq.heappop(coming)
        if since is None:
            later(now, chance.expovariate(NOISE if tenant == "noisy" else 1), tenant)
            if tenant == "noisy" and noisy_ones >= 2 * PLACES:
                continue
            noisy_ones += tenant == "noisy"
            queue.push(tenant, (tenant, now), COST)
        else:
            free += 1
            if tenant == "noisy":
                noisy_ones -= 1
            else:
                seen.append(now - since)
        if free and (following := queue.pop()) is not None:
            free -= 1
            later(now, chance.uniform(1.5, 2.5), *following)
    return sorted(seen)


@pytest.mark.parametrize("percent", [50, 99])
def test_one_that_asks_fifty_times_as_often_costs_the_others_less_than_a_fifth(percent: int) -> None:
    alone, crowded = ([*one][len(one) * percent // 100] for one in (took(noisy=False), took(noisy=True)))
    assert alone < crowded < 1.2 * alone
