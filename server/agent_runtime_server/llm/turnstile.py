"""How many calls of models are made at a time, and whose is next when all places are taken."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext

from agent_runtime_server.core.fair import FairQueue


class Turnstile:
    """Lends places to calls; 0 places are no limit."""

    def __init__(self, places: int = 0, weights: Mapping[str, int] | None = None) -> None:
        by_tenant = dict(weights or {})
        self._places = places
        self._taken = 0
        self._queue: FairQueue[asyncio.Future[None]] = FairQueue(lambda tenant: by_tenant.get(tenant, 1))

    @property
    def waiting(self) -> int:
        """Number of calls that wait for a place."""
        return len(self._queue)

    def place(
        self, tenant: str, cost: Callable[[], int], waits: Callable[[], None]
    ) -> AbstractAsyncContextManager[None]:
        """Hold a place while the block runs; asks for the cost and calls `waits` when none is free."""
        return self._held(tenant, cost, waits) if self._places else nullcontext()

    @asynccontextmanager
    async def _held(self, tenant: str, cost: Callable[[], int], waits: Callable[[], None]) -> AsyncIterator[None]:
        if self._taken < self._places:
            self._taken += 1
        else:
            waits()
            await self._wait(tenant, cost())
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, tenant: str, cost: int) -> None:
        place = asyncio.get_running_loop().create_future()
        self._queue.push(tenant, place, cost)
        try:
            await place
        except asyncio.CancelledError:
            if place.cancelled():
                self._queue.remove(tenant, place)
            else:  # it was handed over at this very moment
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        """Hand a place to whose turn it is."""
        while (following := self._queue.pop()) is not None:
            if not following.done():
                following.set_result(None)
                return
        self._taken -= 1
