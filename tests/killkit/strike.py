"""Striking: waiting for the moment, doing the harm, and measuring how long the sessions it hits take to go on."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from killkit.faults import AT_RANDOM, SENDING, Fault, Kind
from killkit.records import Record, What
from killkit.seat import Seat
from killkit.world import World, processes_of
from servicekit.process import ServerFailed, ServerProcess
from servicekit.waiting import until

_LONGEST_WAIT: Final = 15.0
_LATE_SECONDS: Final = 0.03
_REVIVAL_SECONDS: Final = 120
_PAUSE_SECONDS: Final = 0.3
_WORKER_SECONDS: Final = 6.0
"""By when a worker that was killed serves again."""
_TAKEN_OVER_SECONDS: Final = 2.5
"""After its lease, by when a stopped owner's steps are another's for certain."""


@dataclass(frozen=True, slots=True)
class Struck:
    """What came of a fault: how long each session that it hit took to go on; those that did not are `lost`."""

    fault: Fault
    world: str
    recovered: Mapping[str, float]
    sessions: Sequence[str] = ()
    lost: Sequence[str] = ()

    @property
    def seconds(self) -> float:
        """The time of the slowest."""
        return max(self.recovered.values(), default=0.0)

    def __str__(self) -> str:
        said = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in self.recovered.items()) or "nobody was hit"
        lost = f"; LOST: {', '.join(self.lost)}" if self.lost else ""
        return f"{self.world}: {self.fault.kind} at {self.fault.boundary}: {said}{lost}"


class Striker:
    """Brings the faults of a plan upon one world, one after the other."""

    def __init__(self, world: World, seed: int, mending: asyncio.TaskGroup) -> None:
        self._world = world
        self._chance = Random(seed)
        self._mending = mending
        self._worker_killed = -_WORKER_SECONDS
        self._blows: Mapping[Kind, Callable[[Seat], Awaitable[tuple[Sequence[Seat], float, bool]]]] = {
            Kind.KILL_SERVER: self._kill_server,
            Kind.KILL_WORKER: self._kill_worker,
            Kind.DRAIN_SERVER: self._drain_server,
            Kind.STOP_SERVER: self._stop_server,
            Kind.KILL_CLIENT: self._kill_client,
            Kind.CUT: self._cut,
            Kind.RESET: self._reset,
            Kind.LOST_ACKS: self._lose_acks,
            Kind.STALL: self._stall,
            Kind.HALF_OPEN: self._forget,
            Kind.REDIS: self._restart_redis,
            Kind.POSTGRES: self._restart_postgres,
        }

    async def strike(self, fault: Fault) -> Struck:
        """Wait for the fault's moment, do the harm, and wait until those it hit have gone on."""
        await until(lambda: len(self._fit()) >= 2, "two replicas that serve", _REVIVAL_SECONDS)
        seat = await self._moment(fault.boundary)
        hit, since, on_new_stream = await self._blows[fault.kind](seat)
        sessions = [one.session_id for one in hit]
        recovered, lost = await self._recovery(hit, since, on_new_stream=on_new_stream)
        return Struck(fault, self._world.name, recovered, sessions, lost)

    async def _moment(self, boundary: str) -> Seat:
        """Return the seat at which the boundary was reached, a little later at times."""
        seats = self._world.seats
        if boundary == AT_RANDOM:
            await asyncio.sleep(self._chance.uniform(0, 1.0))
            return self._chance.choice(seats)

        def reached(record: Record) -> bool:
            if boundary == SENDING:
                return record.what is What.SENT
            return record.what is What.EVENT and record.detail == boundary

        loop = asyncio.get_running_loop()
        watching = {loop.create_task(seat.until(reached)): seat for seat in seats}
        done, left = await asyncio.wait(watching, timeout=_LONGEST_WAIT, return_when=asyncio.FIRST_COMPLETED)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        if boundary != SENDING and self._chance.random() < 0.5:
            await asyncio.sleep(self._chance.uniform(0, _LATE_SECONDS))
        return watching[self._chance.choice([*done])] if done else self._chance.choice(seats)

    async def _recovery(
        self, hit: Sequence[Seat], since: float, *, on_new_stream: bool
    ) -> tuple[Mapping[str, float], Sequence[str]]:
        async def wait(seat: Seat) -> float:
            async with asyncio.timeout(self._world.size.patience):
                return await seat.sign(since, on_new_stream=on_new_stream)

        moments = await asyncio.gather(*map(wait, hit), return_exceptions=True)
        recovered = {s.name: at - since for s, at in zip(hit, moments, strict=True) if isinstance(at, float)}
        return recovered, [seat.session_id for seat in hit if seat.name not in recovered]

    # -- blows: each returns whom it hit, since when, and whether their streams have to be new ----------------------

    def revive(self, server: ServerProcess) -> None:
        """Start a server again that is down."""
        self._mending.create_task(_revive(server))

    async def _kill_server(self, seat: Seat) -> tuple[Sequence[Seat], float, bool]:
        server, hit = self._victim(seat)
        since = time.monotonic()
        await server.kill()
        self.revive(server)
        return hit, since, True

    async def _kill_worker(self, seat: Seat) -> tuple[Sequence[Seat], float, bool]:
        workers = [pid for server in self._world.servers if server.options for pid in processes_of(server)]
        if not workers:  # the server that has them has just been killed
            return await self._kill_server(seat)
        pid = seat.replica_pid if seat.replica_pid in workers else self._chance.choice(workers)
        hit, since = self._served_by(pid), time.monotonic()
        os.kill(pid, signal.SIGKILL)
        self._worker_killed = since
        return hit, since, True

    async def _drain_server(self, seat: Seat) -> tuple[Sequence[Seat], float, bool]:
        server, hit = self._victim(seat)
        since = time.monotonic()
        self._mending.create_task(_restart(server))
        return hit, since, True

    async def _stop_server(self, seat: Seat) -> tuple[Sequence[Seat], float, bool]:
        server, _ = self._victim(seat)
        pids = processes_of(server)
        pid = seat.replica_pid if seat.replica_pid in pids else self._chance.choice(pids)
        hit, since = self._served_by(pid), time.monotonic()
        os.kill(pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(self._world.size.lease_seconds + _TAKEN_OVER_SECONDS)
        finally:
            os.kill(pid, signal.SIGCONT)
        return hit, since, False

    async def _kill_client(self, seat: Seat) -> tuple[Sequence[Seat], float, bool]:
        client = self._world.client_of(seat)
        since = time.monotonic()
        client.kill()
        return client.seats, since, True

    async def _cut(self, seat: Seat) -> tuple[Sequence[Seat], float, bool]:
        since = time.monotonic()
        seat.proxy.cut()
        return [seat], since, True

    async def _reset(self, seat: Seat) -> tuple[Sequence[Seat], float, bool]:
        since = time.monotonic()
        seat.proxy.reset()
        return [seat], since, True

    async def _lose_acks(self, seat: Seat) -> tuple[Sequence[Seat], float, bool]:
        seat.proxy.deafen()
        await asyncio.sleep(self._chance.uniform(0.05, 0.6))
        return await self._cut(seat)

    async def _stall(self, seat: Seat) -> tuple[Sequence[Seat], float, bool]:
        async with seat.proxy.stalled():
            await asyncio.sleep(self._chance.uniform(0.2, 2.5))
        return [seat], time.monotonic(), False

    async def _forget(self, seat: Seat) -> tuple[Sequence[Seat], float, bool]:
        since = time.monotonic()
        seat.proxy.forget()
        return [seat], since, True

    async def _restart_redis(self, seat: Seat) -> tuple[Sequence[Seat], float, bool]:
        await self._world.valkey.kill()
        await asyncio.sleep(self._chance.uniform(0, 3))
        await self._world.valkey.start()
        return self._world.seats, time.monotonic(), False

    async def _restart_postgres(self, seat: Seat) -> tuple[Sequence[Seat], float, bool]:
        await self._world.postgres.kill()
        await asyncio.sleep(self._chance.uniform(0, 3))
        await self._world.postgres.start()
        return self._world.seats, time.monotonic(), False

    def _fit(self) -> Sequence[ServerProcess]:
        """Return the servers that serve with all of their processes."""
        settled = time.monotonic() > self._worker_killed + _WORKER_SECONDS
        return [server for server in self._world.servers if server.ready and (settled or not server.options)]

    def _victim(self, seat: Seat) -> tuple[ServerProcess, Sequence[Seat]]:
        """Return the server that serves a seat, or any, and all the seats it serves."""
        server = self._world.server_of(seat) or self._chance.choice(self._fit())
        return server, self._served_by(*processes_of(server))

    def _served_by(self, *pids: int) -> Sequence[Seat]:
        return [seat for seat in self._world.seats if seat.replica_pid in pids]


async def _restart(server: ServerProcess) -> None:
    await server.stop()
    await _revive(server)


async def _revive(server: ServerProcess) -> None:
    """Start a server, and again while it cannot start because Postgres is away, as whoever supervises it would."""
    failures = [""]
    try:
        async with asyncio.timeout(_REVIVAL_SECONDS):
            while not server.ready:
                try:
                    await server.start()
                except ServerFailed as failed:
                    failures.append(str(failed))
                    await asyncio.sleep(_PAUSE_SECONDS)
    except TimeoutError:
        raise ServerFailed(f"it did not start in {_REVIVAL_SECONDS} s; the last time: {failures[-1]}") from None
