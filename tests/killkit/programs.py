"""The clients' and reviewers' processes of a world: killed, and started again as what they were."""

import asyncio
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from killkit.client import Config, as_argument
from killkit.records import Record
from killkit.seat import Seat

TESTS: Final = Path(__file__).resolve().parent.parent
_END_SECONDS: Final = 20


class Program:
    """A Python program of this kit as a process of its own, which ends with its standard input."""

    def __init__(self, arguments: Sequence[str], log: Path, on_line: Callable[[bytes], None]) -> None:
        self._arguments = arguments
        self._log = log
        self._on_line = on_line
        self._process: asyncio.subprocess.Process | None = None

    async def run(self) -> None:
        """Keep it running, again whenever it is killed, until it is told to end."""
        while True:
            process = self._process = await self._spawn()
            assert process.stdout is not None
            async for line in process.stdout:
                self._on_line(line)
            if await process.wait() == 0:
                return

    async def _spawn(self) -> asyncio.subprocess.Process:
        with self._log.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", *self._arguments),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                cwd=TESTS,
            )

    def kill(self) -> None:
        """Kill it as the kernel would."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    def tell(self, word: str) -> None:
        """Write a line to its standard input."""
        if self._process is not None and self._process.stdin is not None and self._process.returncode is None:
            self._process.stdin.write(f"{word}\n".encode())

    def end(self) -> None:
        """Let it end by itself."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()


class ClientProgram(Program):
    """A client program with its seats."""

    def __init__(self, config: Config, seats: Sequence[Seat], log: Path) -> None:
        super().__init__(["killkit.client", as_argument(config)], log, self._take)
        self.seats = seats
        self._by_name = {seat.name: seat for seat in seats}

    def _take(self, line: bytes) -> None:
        session_id, _, rest = line.partition(b" ")
        record = Record.parse(rest)
        if record is not None:  # the last line of a killed one may be torn
            name = session_id.decode()
            self._by_name[name.rpartition("-")[0]].take(name, record)
