"""Turns that wait for a model go on when one is back: a few at a time, on whichever replica looks first."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog

from agent_runtime_server.core.clock import to_nanos
from agent_runtime_server.core.errors import StoreUnavailable
from agent_runtime_server.engine import settle
from agent_runtime_server.engine.asking import Performer
from agent_runtime_server.engine.session import Session
from agent_runtime_server.engine.state import State
from agent_runtime_server.stores.upkeep import ParkedTurns

_log = structlog.get_logger(__name__)

_MOST_AT_ONCE = 100  # so that an endpoint that has just come back is not run over
_SECOND = 1_000_000_000

Find = Callable[[str], Awaitable[Session | None]]


class Parking:
    """Looks after the parked turns of all replicas; `run` must run while it is used."""

    def __init__(self, performer: Performer, turns: ParkedTurns, find: Find, seconds: float) -> None:
        self.count = 0  # of turns parked anywhere, when it was looked last
        self._performer = performer
        self._turns = turns
        self._find = find
        self._seconds = seconds
        self._changed = asyncio.Event()
        performer.model.on_change(self._changed.set)

    async def run(self) -> None:
        """Resume what can go on, whenever a model may have come back, until cancelled."""
        while True:
            self._changed.clear()
            try:
                await self._look()
            except StoreUnavailable as error:
                _log.warning("parked turns wait for the database", error=str(error))
            except Exception:  # noqa: BLE001 - told, and tried again
                _log.exception("parked turns cannot be looked after")
            with suppress(TimeoutError):
                async with asyncio.timeout(self._seconds):
                    await self._changed.wait()

    async def _look(self) -> None:
        self.count = await self._turns.count()
        leaving = self._performer.services.leaving.is_set()
        room = self._room() if self.count and not leaving else 0
        if not room:
            return
        settled: dict[str, int] = {}
        away: list[StoreUnavailable] = []
        async with asyncio.TaskGroup() as tasks:  # at once, so that their commits go together
            for session_id in await self._turns.look(min(room, _MOST_AT_ONCE)):
                tasks.create_task(self._resume(session_id, settled, away), name=f"resume {session_id}")
        if settled:
            await self._turns.forget(settled)
        if away:
            raise away[0]

    async def _resume(self, session_id: str, settled: dict[str, int], away: list[StoreUnavailable]) -> None:
        """Resume one turn if it can go on, and note what came of it."""
        try:
            settled |= await self._try(session_id)
        except StoreUnavailable as error:
            away.append(error)
        except Exception:  # noqa: BLE001 - one that cannot be loaded must not keep the others waiting
            _log.exception("a parked turn cannot be resumed", session_id=session_id)

    def _room(self) -> int:
        """Return how many turns may go on at most, whichever model they want."""
        services = self._performer.services
        wanted = {agent.model or services.limits.model for agent in services.agents.all()}
        return max(self._performer.model.room(model) for model in wanted)

    async def _try(self, session_id: str) -> dict[str, int]:
        """Resume one turn if it can go on; return the head up to which nothing is parked any more."""
        session = await self._find(session_id)
        if session is None:
            return {}
        state = await session.load()
        parked = state.turn.parked if state.turn is not None else None
        if parked is None:
            return {session_id: state.head_seq}
        if not self._ready(state, parked.retry_nanos):
            return {}
        head, since = state.head_seq, parked.since_nanos
        await session.commit(settle.resume)
        now = to_nanos(self._performer.services.clock())
        self._performer.observer.turn_resumed(max(0, now - since) / _SECOND)
        return {session_id: head}

    def _ready(self, state: State, retry_nanos: int) -> bool:
        services = self._performer.services
        agent = services.agents.find(state.agent_id)
        model = (agent and agent.model) or services.limits.model
        return to_nanos(services.clock()) >= retry_nanos and self._performer.model.room(model) > 0
