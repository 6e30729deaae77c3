"""A queue that serves tenants in turn, by deficit round robin: who asks for much makes nobody else wait for it."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class FairQueue(Generic[T]):
    """Items by tenant. While several wait, what each is served, by cost, is in the ratio of their weights.

    Whoever comes to the front with too little credit for their oldest item earns as much as their weight, and goes to
    the back; who has enough is served as long as it lasts. Credit is lost with the last item that waits.
    """

    weight: Callable[[str], int] = lambda _tenant: 1
    _items: dict[str, deque[tuple[int, T]]] = field(default_factory=dict)  # a tenant is in it while something waits
    _credit: dict[str, int] = field(default_factory=dict)
    _turns: deque[str] = field(default_factory=deque)

    def __len__(self) -> int:
        return sum(len(items) for items in self._items.values())

    def push(self, tenant: str, item: T, cost: int = 1) -> None:
        """Put an item behind those of its tenant; it costs at least 1."""
        if tenant not in self._items:
            self._items[tenant] = deque()
            self._credit[tenant] = 0
            self._turns.append(tenant)
        self._items[tenant].append((max(1, cost), item))

    def pop(self) -> T | None:
        """Take the item whose turn it is."""
        while self._turns:
            tenant = self._turns[0]
            cost, item = self._items[tenant][0]
            if self._credit[tenant] < cost:
                self._credit[tenant] += max(1, self.weight(tenant))
                self._turns.rotate(-1)
                continue
            self._credit[tenant] -= cost
            self._items[tenant].popleft()
            if not self._items[tenant]:
                self._forget(tenant)
            return item
        return None

    def remove(self, tenant: str, item: T) -> None:
        """Take an item out that waits no longer."""
        items = self._items.get(tenant, deque())
        left = deque(entry for entry in items if entry[1] is not item)
        if left:
            self._items[tenant] = left
        elif items:
            self._forget(tenant)

    def _forget(self, tenant: str) -> None:
        del self._items[tenant], self._credit[tenant]
        self._turns.remove(tenant)
