"""The processes of a measurement: started, asked, weighed."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

_START_SECONDS: Final = 60
_ALL_THREADS: Final = 2  # in the number of a process's clock: what the scheduler has counted for all its threads
KIT_PATH: Final = {"PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
"""The setting under which a process finds this kit."""


class Failed(Exception):
    """A process did not do what it should; the text has what it said."""


def cpu_seconds(pids: Sequence[int]) -> float:
    """Return the CPU time that processes have used, user and system, all their threads."""
    # Their clocks tell nanoseconds, where /proc/PID/stat counts in ticks of 10 ms.
    return sum(time.clock_gettime(~pid << 3 | _ALL_THREADS) for pid in pids)


def resident_bytes(pids: Sequence[int]) -> int:
    """Return the memory that processes hold."""
    page = os.sysconf("SC_PAGE_SIZE")
    return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page for pid in pids)


def children(pid: int) -> list[int]:
    """Return a process and all that it has started; those that end meanwhile are left out."""
    found = [pid]
    try:
        started = [child for task in Path(f"/proc/{pid}/task").iterdir() for child in _read(task / "children").split()]
    except OSError:
        return found
    for child in started:
        found += children(int(child))
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


class Meter:
    """What processes spend from now on, of which some may end."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._before = {pid: before for pid in pids if (before := self._now(pid)) is not None}

    @staticmethod
    def _now(pid: int) -> float | None:
        try:
            return cpu_seconds([pid])
        except OSError:
            return None

    @property
    def seconds(self) -> float:
        """CPU time spent so far by those that still run."""
        spent = ((self._now(pid), before) for pid, before in self._before.items())
        return sum(now - before for now, before in spent if now is not None)


class Child:
    """A process that says lines and is told lines."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self._process = process
        self._log = log

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def line(self, seconds: float = _START_SECONDS) -> str:
        """Return the next line it says."""
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(seconds):
                said = await self._process.stdout.readline()
        except TimeoutError:
            raise Failed(f"nothing was said for {seconds:g} s\n{self._told()}") from None
        if not said.endswith(b"\n"):  # nothing, or half a line
            raise Failed(f"ended with status {await self._process.wait()} and said {said[-200:]!r}\n{self._told()}")
        return said.decode().strip()

    async def ready(self, word: str = "ready ", seconds: float = _START_SECONDS) -> str:
        """Wait until it says that it is ready, and return what else it says."""
        while not (said := await self.line(seconds)).startswith(word):
            pass
        return said.removeprefix(word)

    async def tell(self, line: str) -> None:
        """Write a line to it."""
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        await self._process.stdin.drain()

    async def stop(self) -> None:
        """End it, at first kindly."""
        if self._process.returncode is None:
            self._process.terminate()
            try:
                await asyncio.wait_for(self._process.wait(), 30)
            except TimeoutError:
                self.kill()
                await self._process.wait()

    def kill(self) -> None:
        """Kill it."""
        self._process.kill()

    def _told(self) -> str:
        return self._log.read_text("utf-8", errors="replace")[-3000:]


@asynccontextmanager
async def child(
    *arguments: str, folder: Path, settings: Mapping[str, str] | None = None, python: str = sys.executable
) -> AsyncIterator[Child]:
    """Run Python with these arguments while the block runs."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("AGENT_RUNTIME_")}
    log = folder / f"{abs(hash(arguments)):x}.log"
    with log.open("ab") as errors:
        process = await asyncio.create_subprocess_exec(
            python,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            cwd=folder,  # where there is no .env
            env={**inherited, **(settings or {})},
            limit=1 << 26,
        )
    started = Child(process, log)
    try:
        yield started
    finally:
        await started.stop()
