"""Performs a session's effects while this replica holds its lease: chooses agents, takes model steps, commits both."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import TypeVar

import structlog

from agent_runtime import v1
from agent_runtime_server.agents.routing import route
from agent_runtime_server.core.errors import Bug, ModelBrokeOff, ModelUnavailable, ServiceError, StoreUnavailable
from agent_runtime_server.engine import steps
from agent_runtime_server.engine.asking import Asking, Performer
from agent_runtime_server.engine.draft import Draft
from agent_runtime_server.engine.notices import between_answers, notice
from agent_runtime_server.engine.session import FencedError, Session
from agent_runtime_server.engine.state import State
from agent_runtime_server.engine.turn import (
    Effect,
    Route,
    TakeStep,
    add_usage,
    next_effect,
)
from agent_runtime_server.engine.work import usual
from agent_runtime_server.stores.shared import Spender

_log = structlog.get_logger(__name__)

_LONGEST_RETRY_SECONDS = 3.0

T = TypeVar("T")
Apply = Callable[[Draft], None]


class Runner:
    """Takes one session on until it waits for others."""

    def __init__(
        self, session: Session, performer: Performer, cause: "v1.TurnRecovered.Cause.ValueType | None"
    ) -> None:
        self._session = session
        self._performer = performer
        self._cause = cause
        self._turn_id = ""
        self._working: tuple[Effect, asyncio.Task[Apply]] | None = None
        self._aborted = False

    async def run(self) -> None:
        """Perform effects until there is none, the lease is another's, or this replica leaves the rest to others."""
        self._session.on_change(self._interrupt)
        try:
            if self._cause is not None:
                await self._recover(self._cause)
            while (effect := await self._next_effect()) is not None and self._holds_on():
                await self._perform(effect)
            if self._aborted and self._session.lease_epoch is not None:
                await self._recover(v1.TurnRecovered.CAUSE_OWNER_DRAINED)
        except FencedError:
            _log.info("another replica took over", session_id=self._session.session_id)
        finally:
            self._session.on_change(None)
            self._session.drop_ahead()

    def stop(self) -> None:
        """Abort the step in hand and record that it has to be repeated."""
        if self._working is not None and not self._working[1].done():
            self._aborted = True
            self._working[1].cancel()

    def _holds_on(self) -> bool:
        return self._session.lease_epoch is not None and not self._performer.services.leaving.is_set()

    async def _recover(self, cause: "v1.TurnRecovered.Cause.ValueType") -> None:
        def recover(draft: Draft) -> None:
            if draft.state.turn is not None:
                steps.recovered(draft, cause)

        await self._commit(recover)

    async def _next_effect(self) -> Effect | None:
        return await self._persist(self._session.effect)

    def _interrupt(self, now_wanted: Effect | None) -> None:
        """Abort the work in hand when a commit has made it pointless."""
        if self._working is not None and self._working[0] != now_wanted:
            self._working[1].cancel()

    async def _perform(self, effect: Effect) -> None:
        """Do what the effect says and commit what it brought, unless it was interrupted."""
        self._turn_id = effect.turn_id
        apply = await self._uninterrupted(effect)
        if apply is None or self._aborted:
            return
        try:
            await self._conclude(effect, apply)
        except (FencedError, ServiceError):
            raise
        except Exception:  # noqa: BLE001 - what cannot be recorded ends the turn; else the step would be taken for ever
            _log.exception("a step's outcome cannot be recorded", session_id=self._session.session_id)
            await self._conclude(effect, _failure(Bug()))

    async def _uninterrupted(self, effect: Effect) -> Apply | None:
        """Return what performing the effect brought, or None when that was interrupted."""
        task = self._session.spawn(self._work(effect))
        self._working = (effect, task)
        try:
            return await task
        except asyncio.CancelledError:
            if not task.cancelled() or _is_cancelled():
                raise
            return None
        finally:
            self._working = None

    async def _conclude(self, effect: Effect, apply: Apply) -> None:
        await self._commit(lambda draft: apply(draft) if next_effect(draft.state) == effect else None)

    async def _work(self, effect: Effect) -> Apply:
        """Return the decision that follows from performing the effect; a failure is one too."""
        try:
            state = await self._persist(self._session.load)
            if next_effect(state) != effect:
                return _nothing
            with await self._set_aside(state):
                if isinstance(effect, Route):
                    return await self._choose(state)
                return await self._step(state, effect)
        except ModelBrokeOff as error:
            return _broke_off(error)
        except ModelUnavailable as error:
            self._performer.observer.turn_parked()
            return _unavailable(error)
        except ServiceError as error:
            return _failure(error)
        except Exception:  # noqa: BLE001 - a bug in a step ends its turn, not the replica
            _log.exception("a step failed", session_id=self._session.session_id)
            return _failure(Bug())

    async def _choose(self, state: State) -> Apply:
        services = self._performer.services
        assert state.turn is not None, "a turn is being routed"
        text = "\n".join(part.text for part in state.turn.message.parts if part.text)
        choice = await route(
            self._performer.model,
            services.agents,
            [*state.transcript],
            text,
            model_name=services.limits.model,
            tenant=self._session.tenant,
        )
        await self._account(state, services.limits.model, choice.usage)
        return lambda draft: steps.routed(draft, choice)

    async def _step(self, state: State, effect: TakeStep) -> Apply:
        asking = self._session.take_ahead(effect)
        if asking is None:
            await self._pause(state, effect)
            asking = Asking(self._session, self._performer, state, effect)
        answer = await asking.answer()
        model = answer.model or asking.agent.model or self._performer.services.limits.model
        await self._account(state, model, answer.usage)
        refused = self._beyond(state, len(answer.calls))
        return lambda draft: steps.answered(draft, asking.agent, asking.writing, answer, refused=refused)

    async def _pause(self, state: State, effect: TakeStep) -> None:
        """Wait before a step whose answers broke off is taken once more."""
        services = self._performer.services
        pause = between_answers(state, services.agents.get(state.agent_id).model or services.limits.model)
        if pause is not None:
            self._session.audience.show(notice(effect.turn_id, pause))
            await asyncio.sleep(pause.seconds)

    async def _account(self, state: State, model: str, usage: v1.Usage | None) -> None:
        """Say what an answer cost, in the usage itself and to whoever counts it."""
        if state.turn is None or usage is None:
            return
        usage.cost_micros = self._performer.prices.cost_micros(model, usage)
        self._performer.observer.tokens_used(model, usage, self._session.tenant)
        await self._performer.spent(self._session.tenant, state.turn.subject, usage)
        if self._performer.ledger is not None:
            self._performer.ledger.count(Spender(self._session.tenant, state.turn.subject), usage)

    def _beyond(self, state: State, calls: int) -> Mapping[int, str]:
        """Return which of an answer's calls the day does not allow, and why."""
        ledger, turn = self._performer.ledger, state.turn
        if ledger is None or turn is None:
            return {}
        return ledger.beyond(Spender(self._session.tenant, turn.subject), calls)

    async def _set_aside(self, state: State) -> AbstractContextManager[None]:
        """Return a block during which as much is set aside for a call as the turn's last one took."""
        ledger, turn = self._performer.ledger, state.turn
        if ledger is None or not ledger.bounds or turn is None:
            return nullcontext()
        spender = Spender(self._session.tenant, turn.subject)
        await self._persist(lambda: ledger.look(spender))
        expected = v1.Usage(worked_millis=usual(state))
        add_usage(expected, turn.last_usage)
        return ledger.call(spender, expected)

    async def _commit(self, apply: Apply) -> None:
        """Commit under the lease; wait for Postgres as long as it takes, for the work is done.

        A lease that was let go of, or ran out, and was taken anew by this replica voids nothing that is still wanted.
        """

        async def commit() -> None:
            while (epoch := self._session.lease_epoch) is not None:
                try:
                    await self._session.commit(apply, epoch=epoch)
                except FencedError:
                    if self._session.lease_epoch == epoch:
                        raise
                else:
                    return
            raise FencedError(self._session.session_id)

        await self._persist(commit)

    async def _persist(self, action: Callable[[], Awaitable[T]]) -> T:
        """Repeat while Postgres is away, and say so; at moments of its own, for all runners wait for the same."""
        delay = 0.1
        while True:
            try:
                return await action()
            except StoreUnavailable as error:
                pause = delay * random.uniform(0.5, 1)  # noqa: S311 - nobody's secret
                self._session.audience.show(_held_up(self._turn_id, error, pause))
                await asyncio.sleep(pause)
                delay = min(delay * 2, _LONGEST_RETRY_SECONDS)


def _is_cancelled() -> bool:
    """Tell whether it is the present task that is to end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _held_up(turn_id: str, error: StoreUnavailable, seconds: float) -> v1.TurnNotice:
    """Return what those who follow the turn are told."""
    notice = v1.TurnNotice(turn_id=turn_id, kind=v1.TurnNotice.KIND_STORE, reason=str(error))
    notice.wait.FromTimedelta(timedelta(seconds=seconds))
    return notice


def _nothing(_draft: Draft) -> None:
    """Commit nothing: others have changed the state since."""


def _broke_off(error: ModelBrokeOff) -> Apply:
    return lambda draft: steps.broke_off(draft, error)


def _unavailable(error: ModelUnavailable) -> Apply:
    return lambda draft: steps.unavailable(draft, error)


def _failure(error: ServiceError) -> Apply:
    return lambda draft: steps.failed(draft, error)
