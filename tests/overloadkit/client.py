"""A load client: a process of its own that begins turns at the rate it is told, however long earlier ones take.

It reads a Job as JSON, says `ready`, is told one Phase a line, and at an empty line prints its Seen as JSON.
"""

import asyncio
import json
import random
import sys
import time
from collections import deque
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field

import uvloop

from overloadkit.talk import Connections, Talk

_LOOK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Job:
    """What a load client is to do."""

    target: str
    keys: list[str]  # of the callers, who begin turns in rotation; an empty one shows none
    streams: int
    tokens: tuple[int, int]  # of an answer, at least and at most
    delay_ms: int  # between them
    seed: int


@dataclass(frozen=True, slots=True)
class Phase:
    """How many turns to begin in a second from now on."""

    name: str
    rate: float


@dataclass(slots=True)
class Seen:
    """What a load client saw, by the phase in which a turn began; moments in seconds of the machine's clock."""

    turns: dict[str, list[tuple[float, float, float]]] = field(default_factory=dict)
    """When a message was sent, when the first text came, when the turn had finished."""
    refusals: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    """When a message was sent, and when it was refused."""
    unsent: dict[str, int] = field(default_factory=dict)
    """Turns that no stream was free for: the client was too small."""
    late: dict[str, list[float]] = field(default_factory=dict)
    """By how much a timer of the client itself came too late, in seconds."""
    wrong: list[str] = field(default_factory=list)
    """What should not have happened."""


class Client:
    """Begins turns on whichever of its streams is idle longest."""

    def __init__(self, job: Job, talks: list[Talk]) -> None:
        self.seen = Seen()
        self._job = job
        self._idle = deque(talks)
        self._chance = random.Random(job.seed)
        self._phase = Phase("before", 0)
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Begin turns as told, until nothing more is told; then let those under way end."""
        async with asyncio.TaskGroup() as tasks:
            background = [tasks.create_task(self._begin(tasks)), tasks.create_task(self._watch_lag())]
            while (line := await asyncio.to_thread(sys.stdin.readline)).strip():
                self._phase = Phase(**json.loads(line))
                self._changed.set()
            for task in background:
                task.cancel()

    async def _begin(self, tasks: asyncio.TaskGroup) -> None:
        due = time.monotonic()
        while True:
            self._changed.clear()
            rate = self._phase.rate
            due += self._chance.expovariate(rate) if rate else 3600
            if await self._told_before(due):
                due = time.monotonic()
                continue
            if self._idle:
                tasks.create_task(self._play(self._idle.popleft(), self._phase.name))
            else:
                unsent = self.seen.unsent
                unsent[self._phase.name] = unsent.get(self._phase.name, 0) + 1

    async def _told_before(self, moment: float) -> bool:
        """Wait for a moment; True when another phase began before."""
        if (left := moment - time.monotonic()) <= 0:
            return False
        try:
            async with asyncio.timeout(left):
                await self._changed.wait()
        except TimeoutError:
            return False
        return True

    async def _play(self, talk: Talk, phase: str) -> None:
        try:
            turn = await talk.play(f"delay={self._job.delay_ms} tokens={self._chance.randint(*self._job.tokens)}")
        except Exception as error:  # noqa: BLE001 - told, and the run fails for it
            self.seen.wrong.append(f"{type(error).__name__}: {error}"[:500])
            return
        if turn.refused:
            self.seen.refusals.setdefault(phase, []).append((turn.began, turn.ended))
        else:
            self.seen.turns.setdefault(phase, []).append((turn.began, turn.first, turn.ended))
        self._idle.append(talk)

    async def _watch_lag(self) -> None:
        while True:
            due = time.monotonic() + _LOOK_SECONDS
            await asyncio.sleep(_LOOK_SECONDS)
            self.seen.late.setdefault(self._phase.name, []).append(max(0.0, time.monotonic() - due))


async def _main() -> Seen:
    job = Job(**json.loads(sys.stdin.readline()))
    async with AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(Connections(job.target, key)) for key in job.keys]
        talks = [Talk(connections[number % len(connections)]) for number in range(job.streams)]
        for talk in talks:
            await talk.open()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        client = Client(job, talks)
        await client.run()
        return client.seen


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asdict(uvloop.run(_main()))) + "\n")
