"""The kill matrix: worlds side by side, a plan of faults between them, and the verdict on all that happened."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from killkit.checker import Violation
from killkit.faults import Fault
from killkit.model import model_process
from killkit.strike import Striker, Struck
from killkit.world import Size, World, world

Tell = Callable[[str], None]


@dataclass(slots=True)
class Outcome:
    """What a run of the matrix has shown."""

    struck: list[Struck] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    sessions: int = 0
    seconds: float = 0

    @property
    def clean(self) -> bool:
        """Whether everything that must hold did."""
        return not self.violations


async def run_matrix(
    folder: Path, faults: Sequence[Fault], *, worlds: int, size: Size, seed: int, minutes: float, tell: Tell
) -> Outcome:
    """Bring the faults upon the worlds, no longer than so many minutes, and judge what happened in each."""
    outcome, left = Outcome(), deque(faults)
    begin = time.monotonic()
    matrix = _Matrix(outcome, left, len(faults), seed, begin + minutes * 60, tell)
    async with model_process(folder) as model_url, asyncio.TaskGroup() as tasks:
        for number in range(worlds):
            tasks.create_task(matrix.go_through(number, folder / f"w{number}", size, model_url))
    outcome.seconds = time.monotonic() - begin
    return outcome


@dataclass(slots=True)
class _Matrix:
    outcome: Outcome
    left: deque[Fault]
    wanted: int
    seed: int
    until: float
    tell: Tell

    async def go_through(self, number: int, folder: Path, size: Size, model_url: str) -> None:
        """Strike one world as long as there are faults left, then judge it."""
        async with world(f"w{number}", folder, size, model_url) as made:
            async with asyncio.TaskGroup() as mending:
                striker = Striker(made, self.seed + number, mending)
                while self.left and time.monotonic() < self.until:
                    await self._strike(striker, self.left.popleft())
                    self._look_for_fallen(made, striker)
            await self._judge(made)

    async def _strike(self, striker: Striker, fault: Fault) -> None:
        struck = await striker.strike(fault)
        self.outcome.struck.append(struck)
        for session_id in struck.lost:
            self.outcome.violations.append(Violation("goes on", session_id, f"not after {fault}"))
        self.tell(f"{len(self.outcome.struck)}/{self.wanted} {struck}")

    def _look_for_fallen(self, made: World, striker: Striker) -> None:
        """Note servers that have ended by themselves, and start them again."""
        for number, server in enumerate(made.servers):
            if server.fell:
                violation = Violation("stays up", f"{made.name} server {number}", server.log()[-500:])
                self.outcome.violations.append(violation)
                self.tell(f"VIOLATION {violation}")
                striker.revive(server)

    async def _judge(self, made: World) -> None:
        await made.come_to_rest()
        violations, sessions = await made.judge()
        self.outcome.violations += violations
        self.outcome.sessions += sessions
        for violation in violations:
            self.tell(f"VIOLATION {violation}")
