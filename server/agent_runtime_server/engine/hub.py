"""Every session that lives on this replica, and the background work that keeps them going."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from weakref import WeakValueDictionary

import structlog
from google.protobuf.timestamp_pb2 import Timestamp

from agent_runtime import v1
from agent_runtime_server.core.clock import to_nanos
from agent_runtime_server.core.errors import ServiceError, StoreUnavailable
from agent_runtime_server.engine import settle
from agent_runtime_server.engine.asking import Asking, Performer
from agent_runtime_server.engine.beats import Beats
from agent_runtime_server.engine.draft import Draft
from agent_runtime_server.engine.parking import Parking
from agent_runtime_server.engine.relay import RUNNABLE
from agent_runtime_server.engine.roll import Roll
from agent_runtime_server.engine.runner import Runner
from agent_runtime_server.engine.session import Session
from agent_runtime_server.engine.state import State
from agent_runtime_server.engine.turn import TakeStep, next_effect
from agent_runtime_server.stores.base import StoredEvent
from agent_runtime_server.stores.upkeep import (
    Due,
    Leases,
    ParkedTurns,
    Taken,
)

_log = structlog.get_logger(__name__)

_BATCH = 100
_MOST_HEADS = 500
_MOST_IDLE_SESSIONS = 2000
_MOST_IDLE_BYTES = 128 << 20  # of content that they hold


@dataclass(frozen=True, slots=True)
class Timing:
    """How often things are looked at, in seconds."""

    sweep_seconds: float = 1
    lease_seconds: float = 10
    heartbeat_seconds: float = 15
    client_idle_seconds: float = 90
    stream_seconds: float = 3300  # the greatest age of a stream


Latest = bool | Callable[[State], bool]
"""Whether a session at hand must know what others have committed; its state may say that it need not."""


class Hub:
    """Finds sessions and runs them; `run` must run while it is used."""

    def __init__(self, performer: Performer, leases: Leases, parked: ParkedTurns, timing: Timing) -> None:
        self.parking = Parking(performer, parked, self._any_tenant, timing.sweep_seconds)
        self._performer = performer
        self._leases = leases
        self._timing = timing
        self._sessions: dict[str, Session] = {}
        self._alive: WeakValueDictionary[str, Session] = WeakValueDictionary()  # also dropped ones that somebody uses
        self.roll = Roll()
        self._beats = Beats(timing.heartbeat_seconds, timing.client_idle_seconds, timing.stream_seconds)
        self._crowded = 0  # sessions at which it is time to look for idle ones
        self._running: dict[str, tuple[Runner, asyncio.Task[None]]] = {}
        self._tenants: Counter[str] = Counter()  # of the running ones
        self._ending = False
        self._group: asyncio.TaskGroup | None = None
        self._swept = self._looked_at_all = time.monotonic()
        self._sweep_now = asyncio.Event()
        self._renew_now = asyncio.Event()
        self._woken = True  # whether the bus brought wake-ups when it was looked at last

    async def session(self, session_id: str, tenant: str, *, latest: Latest = False) -> Session:
        """Return a session of a tenant, `latest` with what others have committed; raises SESSION_NOT_FOUND."""
        session = self._at_hand(session_id)
        if session is None or session.tenant != tenant:
            loaded = self._new(session_id, tenant)
            await loaded.load()
            session = self._at_hand(session_id)
            if session is None or session.tenant != tenant:
                session = loaded
        elif latest is True or (latest and latest(await session.load())):
            await session.refresh()
        self._keep(session)
        return session

    def begin(self, tenant: str, state: State, first: StoredEvent) -> None:
        """Keep a session at hand that was made just now, for its first client mostly comes at once."""
        if self._at_hand(state.session_id) is None:
            session = self._new(state.session_id, tenant)
            session.begin(state, first)
            self._keep(session)

    def _new(self, session_id: str, tenant: str) -> Session:
        services = self._performer.services
        return Session(
            session_id, tenant, services, self._start, roll=self.roll, watch=self._beats.watch, foresee=self._foresee
        )

    def _keep(self, session: Session) -> None:
        if session.session_id not in self._sessions:
            self._drop_idle()
        self._alive[session.session_id] = session
        self._sessions.pop(session.session_id, None)  # the least recently used stand first
        self._sessions[session.session_id] = session

    def _at_hand(self, session_id: str) -> Session | None:
        session = self._alive.get(session_id)
        return None if session is None or session.over else session

    def _drop_idle(self) -> None:
        """Keep the sessions nobody follows bounded in number and content; looks only when many have come meanwhile."""
        if len(self._sessions) < self._crowded:
            return
        idle = [one for one in self._sessions.values() if not one.followed and one.session_id not in self._running]
        room = _MOST_IDLE_BYTES
        for number, session in enumerate(reversed(idle), start=1):  # the latest first
            room -= session.kept_bytes
            if room < 0 or number > _MOST_IDLE_SESSIONS:
                del self._sessions[session.session_id]
        self._crowded = len(self._sessions) + _MOST_IDLE_SESSIONS // 8

    def _drop_closed(self) -> None:
        """Let go of sessions that are closed and that nobody reads any more."""
        for session in [one for one in self._sessions.values() if one.over and one.session_id not in self._running]:
            del self._sessions[session.session_id]

    @property
    def loaded_sessions(self) -> int:
        """Number of sessions held in memory."""
        return len(self._alive)

    @property
    def kept_bytes(self) -> int:
        """Size of the content held in memory for all of them."""
        return sum(session.kept_bytes for session in self._alive.values())

    @property
    def active_sessions(self) -> int:
        """Number of sessions that a runner takes on now."""
        return len(self._running)

    @property
    def active_tenants(self) -> Mapping[str, int]:
        """The tenants of sessions that a runner takes on now, and how many each has."""
        return self._tenants

    def _foresee(self, session: Session, state: State) -> Asking | None:
        """Ask the model already while the commit that calls for it is on its way."""
        effect = next_effect(state)
        if not isinstance(effect, TakeStep) or self._leaving or self._group is None:
            return None
        performer = self._performer
        if state.turn is None or state.turn.broken or performer.services.agents.find(state.agent_id) is None:
            return None  # the runner waits first, or finds out
        if performer.ledger is not None and performer.ledger.bounds:
            return None  # for which the ledger has to be asked first
        return Asking(session, performer, state, effect)

    def _start(self, session: Session, cause: "v1.TurnRecovered.Cause.ValueType | None" = None) -> None:
        """Run a session whose lease is ours, unless it runs already."""
        if session.session_id in self._running or self._group is None:
            return
        if self._leaving:
            session.drop_ahead()
            self._group.create_task(
                _alone(lambda: self._hand_over(session, unfinished=cause is not None)), name="hand over"
            )
            return
        runner = Runner(session, self._performer, cause)
        task = self._group.create_task(self._run(session, runner), name=f"run {session.session_id}")
        self._running[session.session_id] = (runner, task)
        self._tenants[session.tenant] += 1

    async def _run(self, session: Session, runner: Runner) -> None:
        try:
            await runner.run()
            if self._leaving:
                await _alone(lambda: self._hand_over(session, unfinished=False))
        except Exception:  # noqa: BLE001 - one session's bug must not stop the others
            _log.exception("a session's runner failed", session_id=session.session_id)
        finally:
            del self._running[session.session_id]
            self._tenants[session.tenant] -= 1
            if not self._tenants[session.tenant]:
                del self._tenants[session.tenant]

    # -- leaving ----------------------------------------------------------------------------------------------------

    @property
    def _leaving(self) -> bool:
        return self._performer.services.leaving.is_set()

    def leave(self) -> None:
        """Take on nothing more: turns go on elsewhere, running ones from the end of their step."""
        self._performer.services.leaving.set()

    async def abandon(self, seconds: float) -> None:
        """Abort the steps that still run, so that others repeat them at once."""
        for runner, _ in self._running.values():
            runner.stop()
        if self._running:
            await asyncio.wait([task for _, task in self._running.values()], timeout=seconds)

    async def _hand_over(self, session: Session, *, unfinished: bool) -> None:
        """Let go of a lease that no commit has let go of."""
        epoch, session.lease_epoch = session.lease_epoch, None
        if epoch is None:
            return
        await self._leases.release({session.session_id: epoch}, unfinished=unfinished)
        self._performer.services.bus.publish(RUNNABLE, b"")

    # -- background work --------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Sweep, renew leases, and keep streams alive until cancelled; then let go of every lease."""
        timing, bus = self._timing, self._performer.services.bus
        bus.listen(RUNNABLE, lambda _message: self._sweep_now.set())
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                group.create_task(self._every(timing.sweep_seconds, self._sweep, self._sweep_now), name="sweep")
                group.create_task(self._every(timing.lease_seconds / 3, self._renew, self._renew_now), name="renew")
                group.create_task(self._every(self._beats.pause, self._beats.beat), name="beat")
                group.create_task(self.parking.run(), name="parked turns")
                try:
                    await asyncio.Event().wait()
                finally:  # a group tells its tasks once, and libraries that wait with a timeout can lose that
                    self._ending = True
        finally:
            self._group = None
            bus.unlisten(RUNNABLE)
            await self._release()

    async def _every(
        self, seconds: float, action: Callable[[], Awaitable[None]], now: asyncio.Event | None = None
    ) -> None:
        """Act again and again with a pause, which `now` cuts short."""
        now = now or asyncio.Event()
        while not self._ending:
            now.clear()
            try:
                await action()
            except StoreUnavailable as error:
                _log.warning("background work waits for the database", error=str(error))
            except Exception:  # noqa: BLE001 - told, counted as unhealthy by its silence, and tried again
                _log.exception("background work failed")
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await now.wait()

    def check_leases(self) -> None:
        """Find out at once which leases are still ours, for others had reason to take them."""
        self._renew_now.set()

    async def probe(self) -> None:
        """Raise when the background work has stopped making progress."""
        if time.monotonic() - self._swept > 5 * self._timing.sweep_seconds + 5:
            raise StoreUnavailable("background work has not run for a while")

    async def _sweep(self) -> None:
        """Take over what nobody runs, and settle deadlines that have passed."""
        if not self._leaving:
            found = await self._leases.take_runnable(_BATCH)
            for taken in found:
                await self._take_over(taken)
            if len(found) == _BATCH:  # a replica has died that ran more
                self._sweep_now.set()
            for due in await self._leases.due(_BATCH):
                await self._settle(due)
        await self._look_around()
        self._swept = time.monotonic()

    async def _look_around(self) -> None:
        """Catch up with commits no wake-up told of: of busy sessions each time, of idle ones with the heartbeat.

        While there are no wake-ups, and once more when they have come back, idle ones are not left out.
        """
        now, connected = time.monotonic(), self._performer.services.bus.connected
        everyone = now - self._looked_at_all >= self._timing.heartbeat_seconds or not (connected and self._woken)
        self._woken = connected
        looked_at = set(self.roll.followed if everyone else self.roll.busy)
        looked_at.update(self._alive[session_id] for session_id in self._running if session_id in self._alive)
        if everyone:
            self._looked_at_all = now
            self._drop_closed()
        for some in _few_at_a_time([*looked_at]):
            heads = await self._performer.services.log.heads([session.session_id for session in some])
            for session in some:
                if session.session_id in heads:
                    session.grown(heads[session.session_id])
                else:
                    session.removed()

    async def _settle(self, due: Due) -> None:
        """Settle one session; what is wrong with it must not keep the others from their deadlines."""
        moment = Timestamp()
        moment.FromDatetime(due.moment)

        def decide(draft: Draft) -> None:
            draft.reach(to_nanos(moment))
            settle.due(draft)

        try:
            session = await self._any_tenant(due.session_id)
            if session is not None:
                await session.commit(decide)
        except StoreUnavailable:
            raise
        except Exception:  # noqa: BLE001 - as said
            _log.exception("a deadline cannot be settled", session_id=due.session_id)

    async def _take_over(self, taken: Taken) -> None:
        try:
            session = await self._any_tenant(taken.session_id)
        except StoreUnavailable:
            raise
        except Exception:  # noqa: BLE001 - one session that cannot be loaded must not stop the others
            _log.exception("a session cannot be taken over", session_id=taken.session_id)
            return
        if session is None:
            return
        session.lease_epoch = max(taken.lease_epoch, session.lease_epoch or 0)  # a commit may have taken it since
        cause = v1.TurnRecovered.CAUSE_OWNER_DRAINED if taken.drained else v1.TurnRecovered.CAUSE_OWNER_LOST
        self._start(session, cause if taken.unfinished else None)

    async def _any_tenant(self, session_id: str) -> Session | None:
        found = self._alive.get(session_id)
        if found is not None:
            return await self.session(session_id, found.tenant, latest=True)
        row = await self._performer.services.log.row(None, session_id)
        return None if row is None else await self.session(session_id, row.tenant)

    async def _renew(self) -> None:
        held = self._held()
        if not held:
            return
        for session_id in await self._leases.renew(held):
            session = self._alive.get(session_id)
            if session is not None and self._group is not None:
                # On its own: one whose commit takes long must not keep the others' leases from being renewed.
                give_up = partial(self._give_up, session, held[session_id])
                self._group.create_task(_alone(give_up), name="give up")

    async def _give_up(self, session: Session, epoch: int) -> None:
        if await session.give_up(epoch):
            _log.warning("a lease was lost", session_id=session.session_id)

    def _held(self) -> Mapping[str, int]:
        sessions = (self._alive[session_id] for session_id in self._running if session_id in self._alive)
        return {one.session_id: one.lease_epoch for one in sessions if one.lease_epoch is not None}

    async def _release(self) -> None:
        held = {one.session_id: one.lease_epoch for one in self._alive.values() if one.lease_epoch is not None}
        if held:
            try:
                await self._leases.release(held, unfinished=True)
            except StoreUnavailable:
                _log.warning("leases run out by themselves, for the database is away")

    def end_feeds(self, error: ServiceError) -> None:
        """End every stream."""
        for session in self.roll.followed:
            session.audience.end(error)

    def say(self, farewell: Callable[[], v1.GoAway]) -> None:
        """Tell every stream that it ends soon, each in its own words."""
        for session in self.roll.followed:
            for feed in session.audience.feeds:
                feed.answer(farewell())


def _few_at_a_time(sessions: Sequence[Session]) -> Iterator[Sequence[Session]]:
    """Yield so many at a time that others get their turns between."""
    for first in range(0, len(sessions), _MOST_HEADS):
        yield sessions[first : first + _MOST_HEADS]


async def _alone(work: Callable[[], Awaitable[None]]) -> None:
    """Do what ends by itself when it fails: leases run out, and what is lost is found lost again."""
    try:
        await work()
    except StoreUnavailable as error:
        _log.warning("work on a lease waits for the database", error=str(error))
    except Exception:  # noqa: BLE001 - one session's trouble must not stop the others
        _log.exception("work on a lease failed")
