"""Who waits is served in turn, in the ratio of weights, however much others ask for."""

from collections import Counter

import hypothesis.strategies as st
from hypothesis import given

from agent_runtime_server.core.fair import FairQueue

TENANTS = ("a", "b", "c")


@given(
    st.dictionaries(st.sampled_from(TENANTS), st.integers(1, 5), min_size=3),
    st.lists(st.integers(1, 9), min_size=3, max_size=3),
    st.integers(1, 200),
)
def test_tenants_that_wait_are_served_in_the_ratio_of_their_weights(
    weights: dict[str, int], costs: list[int], count: int
) -> None:
    queue: FairQueue[str] = FairQueue(lambda tenant: weights[tenant])
    cost = dict(zip(TENANTS, costs, strict=True))
    for tenant in TENANTS:
        for _ in range(count):
            queue.push(tenant, tenant, cost[tenant])
    served: Counter[str] = Counter()
    for _ in range(count):  # so that nobody's items end before
        following = queue.pop()
        assert following is not None
        served[following] += cost[following]
    shares = [served[tenant] / weights[tenant] for tenant in TENANTS]
    # Nobody is further ahead than by a turn, and by an item that was waited for.
    assert max(shares) - min(shares) <= 2 + 2 * max(cost[tenant] / weights[tenant] for tenant in TENANTS)


@given(st.lists(st.tuples(st.sampled_from(TENANTS), st.integers(0, 9)), max_size=50), st.data())
def test_every_item_is_served_once_and_in_its_tenants_order(pushed: list[tuple[str, int]], data: st.DataObject) -> None:
    queue: FairQueue[tuple[str, int]] = FairQueue()
    entries = [(tenant, number) for number, (tenant, _) in enumerate(pushed)]
    for entry, (_, cost) in zip(entries, pushed, strict=True):
        queue.push(entry[0], entry, cost)
    gone = data.draw(st.sets(st.sampled_from(entries))) if entries else set()
    for entry in gone:
        queue.remove(entry[0], entry)
    assert len(queue) == len(entries) - len(gone)
    served = []
    while (item := queue.pop()) is not None:
        served.append(item)
    assert sorted(served) == sorted(set(entries) - gone)
    for tenant in TENANTS:
        numbers = [number for one, number in served if one == tenant]
        assert numbers == sorted(numbers)
    assert len(queue) == 0


def test_one_that_asks_for_a_thousand_lets_the_next_one_in_at_once() -> None:
    queue: FairQueue[str] = FairQueue()
    for _ in range(1000):
        queue.push("noisy", "noisy")
    queue.pop()
    queue.push("quiet", "quiet")
    assert "quiet" in [queue.pop() for _ in range(3)]


def test_who_comes_back_has_saved_nothing() -> None:
    queue: FairQueue[str] = FairQueue(lambda tenant: 100 if tenant == "a" else 1)
    queue.push("a", "a")
    assert queue.pop() == "a"
    assert not queue._credit
