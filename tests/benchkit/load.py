"""A load client: a process of its own that plays turns on many streams at once, and tells what it saw.

It reads a Job as JSON, says `ready`, reads the moment to begin, writes its Seen as JSON to a file, and says `done`.
"""

import asyncio
import json
import random
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import uvloop

from benchkit.turns import Channels, ChatPlayer, HttpPlayer, Player, StreamPlayer, Turn


@dataclass(frozen=True, slots=True)
class Job:
    """What a load client is to do."""

    kind: str  # service, bare, http, stream
    target: str
    streams: int
    delay_ms: int
    warm_seconds: float
    seconds: float
    seed: int
    out: str  # the file that it writes
    template: str = ""  # of the request, for http and stream, in hexadecimal; TEXT stands for the user's text
    tokens: int = 64

    @property
    def text(self) -> str:
        """What is said; of fixed length, for it is put into requests made beforehand."""
        return f"delay={self.delay_ms} tokens={self.tokens}"


@dataclass(slots=True)
class Seen:
    """What a load client saw in its window; times in seconds."""

    turns: int = 0
    frames: int = 0
    took: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    acked: list[float] = field(default_factory=list)
    offset: list[float] = field(default_factory=list)  # mean over the tokens of a turn of the time they took
    errors: list[str] = field(default_factory=list)
    cpu: float = 0  # of this client

    def note(self, turn: Turn) -> None:
        """Add a turn that ended in the window."""
        self.turns += 1
        self.frames += turn.frames
        self.took.append(turn.ended - turn.began)
        self.first.append(turn.first - turn.began)
        self.offset.append(turn.offsets / max(turn.tokens, 1))
        if turn.acked:
            self.acked.append(turn.acked - turn.began)


async def _play(job: Job) -> Seen:
    async with AsyncExitStack() as stack:
        players = _players(job, stack)
        for player in players:
            stack.push_async_callback(player.close)
        await asyncio.gather(*(_opened(player) for player in players))
        begin = float(await _ready())
        seen = Seen()
        window = (begin + job.warm_seconds, begin + job.warm_seconds + job.seconds)
        chance = random.Random(job.seed)
        ideal = job.delay_ms * job.tokens / 1000
        delays = [begin + chance.random() * ideal for _ in players]
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_weigh(window, seen))
            for player, delay in zip(players, delays, strict=True):
                tasks.create_task(_repeat(player, job, delay, window, seen))
        return seen


def _players(job: Job, stack: AsyncExitStack) -> list[Player]:
    if job.kind == "http":
        address = urlsplit(job.target)
        host, port = address.hostname or "127.0.0.1", address.port or 80
        template = bytes.fromhex(job.template)
        return [HttpPlayer(host, port, lambda text: _filled(template, text), b"token ") for _ in range(job.streams)]
    channels = Channels(job.target)
    stack.push_async_callback(channels.close)
    if job.kind == "stream":
        method, _, asked = job.template.partition(" ")
        request = bytes.fromhex(asked)
        return [
            StreamPlayer(channels.one(), method, lambda text: _filled(request, text), b"token ")
            for _ in range(job.streams)
        ]
    return [ChatPlayer(channels.one(), bare=job.kind == "bare") for _ in range(job.streams)]


def _filled(template: bytes, text: str) -> bytes:
    """Put the text into a request; both have its length, so that lengths stated in it stay true."""
    return template.replace(PLACE.encode(), text.encode().ljust(len(PLACE)))


PLACE = "TEXT".ljust(24, "-")
"""Stands in a request for the user's text."""


async def _opened(player: Player) -> None:
    if isinstance(player, ChatPlayer):
        await player.open()


async def _ready() -> str:
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    return await asyncio.to_thread(sys.stdin.readline)


async def _weigh(window: tuple[float, float], seen: Seen) -> None:
    await asyncio.sleep(window[0] - time.monotonic())
    before = time.process_time()
    await asyncio.sleep(window[1] - time.monotonic())
    seen.cpu = time.process_time() - before


async def _repeat(player: Player, job: Job, delay: float, window: tuple[float, float], seen: Seen) -> None:
    await asyncio.sleep(max(0.0, delay - time.monotonic()))
    try:
        while time.monotonic() < window[1]:
            turn = await player.play(job.text)
            if window[0] <= turn.ended < window[1]:
                seen.note(turn)
    except Exception as error:  # noqa: BLE001 - told, and the cell fails for it
        seen.errors.append(f"{type(error).__name__}: {error}"[:500])


if __name__ == "__main__":
    asked = Job(**json.loads(sys.stdin.readline()))
    Path(asked.out).write_text(json.dumps(asdict(uvloop.run(_play(asked)))))
    sys.stdout.write("done\n")
