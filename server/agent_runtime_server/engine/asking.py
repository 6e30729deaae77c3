"""A model step that is under way, perhaps ahead of the commit that calls for it."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from agent_runtime import v1
from agent_runtime_server.agents.step import offered_to, take_step
from agent_runtime_server.core.observe import ModelObserver, Nobody
from agent_runtime_server.core.prices import Prices
from agent_runtime_server.engine.audience import Audience
from agent_runtime_server.engine.deltas import Writing
from agent_runtime_server.engine.feed import Ephemeral
from agent_runtime_server.engine.ledger import Ledger
from agent_runtime_server.engine.notices import notice
from agent_runtime_server.engine.services import Services
from agent_runtime_server.engine.session import Session
from agent_runtime_server.engine.state import State
from agent_runtime_server.engine.turn import TakeStep
from agent_runtime_server.llm.base import Delay, ModelAnswer, Models

Spent = Callable[[str, str, v1.Usage], Awaitable[None]]


async def _unaccounted(_tenant: str, _subject: str, _usage: v1.Usage) -> None:
    """Let nobody account for what models are asked."""


@dataclass(frozen=True, slots=True)
class Performer:
    """What steps are taken with."""

    model: Models
    services: Services
    window_seconds: float
    observer: ModelObserver = field(default_factory=Nobody)
    spent: Spent = _unaccounted  # told, of a tenant and a subject, what an answer has cost
    prices: Prices = field(default_factory=Prices)
    ledger: Ledger | None = None


class Asking:
    """One request to a model, of the state as it is now; nothing of it is shown before its answer is waited for."""

    def __init__(self, session: Session, performer: Performer, state: State, effect: TakeStep) -> None:
        services = performer.services
        self.effect = effect
        self.agent = services.agents.get(state.agent_id)
        self._session = session
        self._curtain = _Curtain(session.audience)
        self.writing = Writing(effect, services.new_id, self._curtain, performer.window_seconds)
        step = take_step(
            performer.model,
            self.agent,
            [*state.transcript],
            offered_to(self.agent, state.tools).values(),
            default_model=services.limits.model,
            sink=self.writing,
            tell=self._tell,
            others=services.agents.others(self.agent),
            tenant=session.tenant,
        )
        self._answer = session.spawn(step)

    def _tell(self, delay: Delay) -> None:
        self._curtain(notice(self.effect.turn_id, delay))

    async def answer(self) -> ModelAnswer:
        """Show the answer as it comes, and return it; cancelling ends the request."""
        self._session.audience.begin_writing(self.writing)
        self._curtain.rise()
        try:
            answer = await self._answer
            self.writing.flush()
        finally:
            self.writing.close()
            self._session.audience.end_writing()
        return answer

    def drop(self) -> None:
        """End the request: the commit that called for it has failed, or something else is to be done by now."""
        self._answer.cancel()
        self._answer.add_done_callback(_unheard)
        self.writing.close()


class _Curtain:
    """Holds back what is to be shown until it rises."""

    def __init__(self, audience: Audience) -> None:
        self._audience = audience
        self._held: list[Ephemeral] = []
        self._risen = False

    def __call__(self, *items: Ephemeral) -> None:
        if self._risen:
            self._audience.show(*items)
        else:
            self._held.extend(items)

    def rise(self) -> None:
        """Show what was held back, and from now on everything at once."""
        self._risen = True
        self._audience.show(*self._held)
        self._held.clear()


def _unheard(answer: "asyncio.Task[ModelAnswer]") -> None:
    """Take note of how a request ended that nobody waits for."""
    if not answer.cancelled():
        answer.exception()
