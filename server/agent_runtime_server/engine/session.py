"""One session on this replica: its folded state, its commits in order, and the feeds that follow it."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar
from weakref import proxy

import structlog

from agent_runtime import v1
from agent_runtime_server.core.clock import to_nanos
from agent_runtime_server.core.errors import CallerError, StoreUnavailable
from agent_runtime_server.engine.appends import approval_rows, as_append
from agent_runtime_server.engine.audience import Audience
from agent_runtime_server.engine.draft import Draft
from agent_runtime_server.engine.loading import OvertakenError, fold, load
from agent_runtime_server.engine.position import not_found
from agent_runtime_server.engine.roll import Roll
from agent_runtime_server.engine.services import Services
from agent_runtime_server.engine.settle import settle
from agent_runtime_server.engine.snapshot import pack
from agent_runtime_server.engine.state import State
from agent_runtime_server.engine.turn import (
    FOLD_VERSION,
    Effect,
    apply,
    next_effect,
)
from agent_runtime_server.engine.watch import Watch
from agent_runtime_server.stores.base import (
    Frame,
    GoneError,
    LeaseAction,
    Outcome,
    Snapshot,
    StoredEvent,
)
from agent_runtime_server.stores.shared import Spender

if TYPE_CHECKING:
    from agent_runtime_server.engine.asking import Asking

_log = structlog.get_logger(__name__)

_PAGE = 500

T = TypeVar("T")
Decide = Callable[[Draft], None]


class FencedError(Exception):
    """Another replica owns the session's step by now."""


@dataclass(frozen=True, slots=True)
class Committed:
    """The answer to a commit: the event the frame made (0 for none) and whether it had been known before."""

    seq: int
    duplicate: bool = False


class Session:
    """Commits what is decided on its state, one decision after the other."""

    def __init__(
        self,
        session_id: str,
        tenant: str,
        services: Services,
        on_runnable: Callable[["Session"], None],
        *,
        roll: Roll | None = None,
        watch: Watch | None = None,
        foresee: "Callable[[Session, State], Asking | None] | None" = None,
    ) -> None:
        self.session_id = session_id
        self.tenant = tenant
        self.lease_epoch: int | None = None  # of the lease this replica holds
        self.oldest_seq = 1
        me = proxy(self)  # so that whoever is used no more is gone at once, and waits for no collection of garbage
        self.audience = Audience(
            session_id,
            lambda after_seq, limit: me._events(after_seq, limit),  # noqa: SLF001 - it is this one
            services.clock,
            services.bus,
            watch or Watch(),
            on_growth=lambda head_seq: me.grown(head_seq),
            on_change=lambda: me._enrol(),  # noqa: SLF001 - it is this one
        )
        self._roll = roll or Roll()
        self._services = services
        self._on_runnable = on_runnable
        self._foresee = foresee
        self._ahead: Asking | None = None  # begun ahead of the commit that calls for it
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[object]] = set()  # commits, requests and more: they outlive who asked for them
        self._state: State | None = None
        self._unsaved = 0
        self._interrupt: Callable[[Effect | None], None] | None = None

    @property
    def head_seq(self) -> int:
        """Highest committed seq that is known here."""
        return self.audience.head_seq

    @property
    def followed(self) -> bool:
        """Whether somebody reads it here."""
        return self.audience.followed

    @property
    def busy(self) -> bool:
        """Whether a turn runs, so that others may commit at any moment."""
        return self.audience.turn_state != v1.TURN_STATE_UNSPECIFIED

    @property
    def kept_bytes(self) -> int:
        """Size of the content that is held in memory for this session, which is bounded."""
        return self.audience.kept_bytes + (self._state.bytes if self._state is not None else 0)

    @property
    def over(self) -> bool:
        """Whether it is closed and nobody reads it: then it may be removed, and another one be made under its id."""
        return self._state is not None and self._state.closed and not self.followed

    def grown(self, head_seq: int) -> None:
        """Catch up with what others have committed, where somebody here goes by it."""
        if head_seq > self.head_seq and (self.followed or self._interrupt is not None):
            self.spawn(self._try_refresh())

    async def _try_refresh(self) -> None:
        # The sweep, which looks every second, comes back to it; whoever reads a session that is gone was told so.
        with suppress(StoreUnavailable, CallerError):
            await self.refresh()

    async def _events(self, after_seq: int, limit: int) -> Sequence[StoredEvent]:
        return await self._services.log.events(self.tenant, self.session_id, after_seq, limit)

    def _enrol(self) -> None:
        self._roll.follow(self)

    # -- state ------------------------------------------------------------------------------------------------------

    def begin(self, state: State, first: StoredEvent) -> None:
        """Take over the state of a session that was made just now, by its only event."""
        self._state = state
        self._grew(1)
        self._publish(state, (first,))

    async def load(self) -> State:
        """Return the state, folded anew from the log when it is not at hand."""
        async with self._lock:
            return await self._loaded()

    async def _loaded(self) -> State:
        if self._state is not None:
            return self._state
        while True:
            try:
                return await self._read()
            except OvertakenError:
                continue

    async def _read(self) -> State:
        """Fold the log from the latest snapshot on."""
        log = self._services.log
        found = await load(log, self.tenant, self.session_id)
        if found is None:
            self.removed()
            raise not_found(self.session_id)
        loaded, state = found
        self._grew(loaded.row.session.head_seq - state.head_seq)
        async for page in fold(log, self.tenant, loaded, state):
            self.audience.publish(state.head_seq, page)
        self.oldest_seq = loaded.row.session.oldest_seq
        if self.lease_epoch is not None:  # it may have run out, and been taken anew by this very replica
            self.lease_epoch = loaded.row.lease_epoch if loaded.row.lease_mine else None
        self._state = state
        self._publish(state, ())
        return state

    async def snapshot(self) -> Snapshot | None:
        """Return the state as it is to be kept, if it is at hand."""
        async with self._lock:
            if self._state is None:
                return None
            self._unsaved = 0
            return Snapshot(self._state.head_seq, FOLD_VERSION, pack(self._state))

    @property
    def unsaved(self) -> int:
        """Number of events to be folded behind the latest snapshot, as far as this replica has added them."""
        return self._unsaved

    def _grew(self, unsaved: int) -> None:
        self._unsaved = unsaved
        self._roll.grown.add(self)

    async def refresh(self) -> None:
        """Fold what others have committed; for who decides by the state without committing anything itself."""
        async with self._lock:
            state = await self._loaded()
            while page := await self._events(state.head_seq, _PAGE):
                if page[0].seq != state.head_seq + 1:
                    self._forget()
                    await self._loaded()
                    return
                for event in page:
                    apply(state, v1.SessionEvent.FromString(event.payload))
                if next_effect(state) is None:  # the commit that left nothing to do has let go of the lease
                    self.lease_epoch = None
                self._publish(state, page)
                if len(page) < _PAGE:
                    return
            if state.closed:  # nothing follows, unless that it is removed
                await self._head()

    async def _head(self) -> int:
        """Return the seq that the log ends with; raises SESSION_NOT_FOUND when there is none any more."""
        heads = await self._services.log.heads([self.session_id])
        if self.session_id not in heads:
            self.removed()
            raise not_found(self.session_id)
        return heads[self.session_id]

    def removed(self) -> None:
        """Forget everything and end every stream: the session is there no more."""
        self._forget()
        self.audience.end(not_found(self.session_id))

    def _forget(self) -> None:
        """Drop a state that is stale or was spoiled by a draft that was not committed."""
        self._state = None

    def _publish(self, state: State, events: Sequence[StoredEvent]) -> None:
        """Show committed events to every reader, and the state that they leave to the runner."""
        audience = self.audience
        audience.turn_state = state.turn.state if state.turn is not None else v1.TURN_STATE_UNSPECIFIED
        if self.followed:
            self._enrol()
        audience.publish(state.head_seq, events)
        audience.follow_executor(state.executor)
        if self._interrupt is not None:
            self._interrupt(next_effect(state))

    # -- commits ----------------------------------------------------------------------------------------------------

    async def commit(self, decide: Decide, *, frame: Frame | None = None, epoch: int | None = None) -> Committed:
        """Decide on the latest state and commit what follows; `epoch` fences a runner's commit.

        Raises what `decide` refuses with, IDEMPOTENCY_KEY_REUSED, FencedError, and StoreUnavailable. A caller that
        is cancelled does not stop what may be committed already: it is shown and carried on all the same.
        """
        committing = self.spawn(self._commit(decide, frame, epoch))
        try:
            return await asyncio.shield(committing)
        except asyncio.CancelledError:
            committing.add_done_callback(_unheard)
            raise
        finally:
            del committing  # it holds its refusal, and that by its traceback this frame: nothing of a frame may stay

    def spawn(self, work: Coroutine[object, object, T]) -> asyncio.Task[T]:
        """Do work that outlives who asked for it."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _commit(self, decide: Decide, frame: Frame | None, epoch: int | None) -> Committed:
        async with self._lock:
            while True:
                committed = await self._try_commit(decide, frame, epoch)
                if committed is not None:
                    return committed

    async def _try_commit(self, decide: Decide, frame: Frame | None, epoch: int | None) -> Committed | None:
        """Commit once; None when others committed first."""
        state = await self._loaded()
        if epoch is not None and self.lease_epoch != epoch:
            raise FencedError(self.session_id)
        draft = self._draft(state)
        try:
            decide(draft)
            settle(draft)
        except CallerError:
            head_seq = state.head_seq - len(draft.events)
            if draft.events:
                self._forget()
            if await self._is_stale(head_seq):
                self._forget()
                return None
            known = await self._known(frame)
            if known is None:
                raise
            return known
        except BaseException:
            self._forget()
            raise
        if not draft.events and frame is None:
            return Committed(0)
        return await self._append(draft, frame, epoch)

    async def _is_stale(self, head_seq: int) -> bool:
        """Tell whether others have committed since, which may change a refusal."""
        return await self._head() != head_seq

    async def _known(self, frame: Frame | None) -> Committed | None:
        """Answer a refused frame as a duplicate when it was committed before."""
        known = await self._services.log.frame(frame.scope, frame.frame_id) if frame is not None else None
        return None if known is None or frame is None else await self._again(frame, *known)

    async def _again(self, frame: Frame, seq: int, digest: bytes) -> Committed:
        """Answer a frame that is known, and run what it began: its first answer, with the lease, may have been lost."""
        self._forget()
        state = await self._loaded()
        if self.lease_epoch is None and next_effect(state) is not None:
            await self._append(self._draft(state), None, None)
        return duplicate(frame, seq, digest)

    def _draft(self, state: State) -> Draft:
        services = self._services
        return Draft(state, to_nanos(services.clock()), services.new_id, services.agents, services.limits)

    async def _append(self, draft: Draft, frame: Frame | None, epoch: int | None) -> Committed | None:
        state = draft.state
        try:
            approvals = await approval_rows(self._services.approvals, self.tenant, draft)
            leased, leaving = self.lease_epoch is not None, self._services.leaving.is_set()
            append = as_append(draft, approvals, frame, epoch, leased=leased, leaving=leaving)
            if append.lease is LeaseAction.ACQUIRE and self._foresee is not None:
                self._ahead = self._foresee(self, state)
            appended = await self._services.log.append(append)
        except GoneError as error:
            self.drop_ahead()
            self.removed()
            raise not_found(self.session_id) from error
        except BaseException:
            self.drop_ahead()
            self._forget()
            raise
        if appended.outcome is not Outcome.DONE or not appended.lease_mine:
            self.drop_ahead()
        if appended.outcome is Outcome.DUPLICATE:
            assert frame is not None, "only frames are duplicates"
            return await self._again(frame, appended.frame_seq, appended.frame_digest)
        if appended.outcome is Outcome.CONFLICT:
            self._forget()
            return None
        self.lease_epoch = appended.lease_epoch if appended.lease_mine else None
        self._grew(self._unsaved + len(append.events))
        self._publish(state, append.events)
        self._services.committed(append.events)
        if (more := draft.work_before.until(state)) is not None:
            self._services.worked(Spender(self.tenant, draft.work_before.subject), more)
        self.audience.relay.grew(state.head_seq)
        if append.runnable and self.lease_epoch is not None:
            self._on_runnable(self)
        elif append.runnable and leaving:
            self.audience.relay.left()
        return Committed(draft.frame_seq)

    # -- runners ----------------------------------------------------------------------------------------------------

    async def effect(self) -> Effect | None:
        """Return what a runner has to do now."""
        return next_effect(await self.load())

    async def give_up(self, epoch: int) -> bool:
        """Stop what runs under a lease if it is really lost, and tell whether it is.

        What seemed lost may have been let go of by a commit that was still on its way, or taken anew by this replica.
        """
        async with self._lock:
            if self.lease_epoch != epoch:
                return False
            row = await self._services.log.row(self.tenant, self.session_id)
            if row is not None and row.lease_mine:
                self.lease_epoch = row.lease_epoch
                return False
            self.lease_epoch = None
        if self._interrupt is not None:
            self._interrupt(None)
        return True

    def take_ahead(self, effect: Effect) -> "Asking | None":
        """Hand over what was begun ahead of its commit, if it is what is to be done now."""
        if self._ahead is None or self._ahead.effect != effect:
            return None
        ahead, self._ahead = self._ahead, None
        return ahead

    def drop_ahead(self) -> None:
        """End what was begun ahead of its commit and that nobody has taken."""
        if self._ahead is not None:
            self._ahead.drop()
            self._ahead = None

    def on_change(self, interrupt: Callable[[Effect | None], None] | None) -> None:
        """Call `interrupt` with what is to be done next after each commit, or stop doing so."""
        self._interrupt = interrupt


def _unheard(committing: "asyncio.Task[Committed]") -> None:
    """Take note of how a commit failed for which nobody waits any more: as nobody was told of it, nothing is lost."""
    if not committing.cancelled() and (error := committing.exception()) is not None:
        _log.info("a commit failed that nobody waits for", error=type(error).__name__)


def duplicate(frame: Frame, seq: int, digest: bytes) -> Committed:
    """Answer a frame that is known; raises IDEMPOTENCY_KEY_REUSED when its payload is another one."""
    if digest != frame.digest:
        message = f"frame_id {frame.frame_id} was used before with another payload; use a new one"
        raise CallerError(v1.ERROR_REASON_IDEMPOTENCY_KEY_REUSED, message)
    return Committed(seq, duplicate=True)
