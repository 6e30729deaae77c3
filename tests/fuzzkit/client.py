"""A fuzzing client as a program of its own; `python -m fuzzkit.client` reads its order as JSON from standard input.

It plays until standard input ends, or until it has sent as many frames as it was told.
"""

import asyncio
import itertools
import json
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from typing import Any, Final

import grpc.aio
from google.protobuf.message import Message

from agent_runtime import v1
from fuzzkit.known import Known
from fuzzkit.methods import methods
from fuzzkit.plays import BOUND_SECONDS, Hung, Play
from fuzzkit.shapes import fresh_id
from fuzzkit.told import Finding, Tally, tell

_AT_ONCE: Final = 24  # plays
_SESSIONS: Final = 24
_LONGEST_LOG: Final = 2000  # events, after which another session is fuzzed
_CHANNELS: Final = 4
_OPTIONS: Final = (("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1))
_CONNECTIONS: Final = 0.01  # of the plays that write to a connection of their own
_OFTEN: Final = {
    "ChatService.Chat": 40, "HitlService.Hitl": 10, "ChatService.SubmitFrame": 12, "EventService.SubscribeEvents": 3,
    "HitlService.DecideApproval": 3, "SessionService.CloseSession": 0.2, "SessionService.ForkSession": 0.1,
}  # fmt: skip
"""How often a play is a call of an RPC; 1 for those not named."""
_SESSION_SERVICE: Final = "/agent_runtime.v1.SessionService"


@dataclass(frozen=True, slots=True)
class Order:
    """What to do."""

    target: str
    seed: str
    frames: int
    known: Mapping[str, Sequence[str]]
    again: bool = False
    """Whether the seed is that of one play, which is played once."""

    def written(self) -> bytes:
        """Return it as a line."""
        return json.dumps(asdict(self)).encode() + b"\n"


class Fuzzer:
    """Plays many plays at once."""

    def __init__(self, order: Order, channels: Sequence[grpc.aio.Channel]) -> None:
        self._order = order
        self._channels = channels
        self._known = Known(order.known)
        self._methods = tuple(methods())
        self._tally = Tally()
        self._sessions: set[str] = set()
        self._weights = [_OFTEN.get(method.name, 1.0) for method in self._methods]
        self._frames = 0  # that have been told
        self._enough = asyncio.Event()

    async def run(self) -> None:
        """Play until it is enough."""
        for number in range(_SESSIONS):
            await self._begin_session(f"{self._order.seed}.{number}".replace(".", "-"))
        if self._order.again:
            await self._play(self._order.seed)
        else:
            await self._play_all()
        self._flush()

    async def _play_all(self) -> None:
        numbers = itertools.count()
        async with asyncio.TaskGroup() as tasks:
            telling = tasks.create_task(self._report())
            waiting = tasks.create_task(self._until_told())
            players = [tasks.create_task(self._player(numbers)) for _ in range(_AT_ONCE)]
            await asyncio.wait(players)
            telling.cancel()
            waiting.cancel()

    async def _until_told(self) -> None:
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        await reader.read()
        self._enough.set()

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(1)
            self._flush()

    def _flush(self) -> None:
        self._frames += self._tally.frames
        tell(self._tally.taken())

    async def _player(self, numbers: Iterator[int]) -> None:
        while not self._enough.is_set() and self._frames + self._tally.frames < self._order.frames:
            await self._play(f"{self._order.seed}.{next(numbers)}")

    async def _play(self, seed: str) -> None:
        """Play one play; a bug of the fuzzer is a finding, too."""
        play = Play(seed, self._known, self._tally, tell)
        try:
            if play.random.random() < _CONNECTIONS:
                await play.connection(self._order.target, self._methods)
            else:
                (method,) = play.random.choices(self._methods, self._weights)
                await play.call(play.random.choice(self._channels), method)
            await self._look_after(play)
        except Hung:
            pass  # which was told where it was seen
        except Exception:  # noqa: BLE001 - told as a finding
            tell(Finding(seed, "the fuzzer", traceback.format_exc(limit=-4)))

    async def _look_after(self, play: Play) -> None:
        """Let another session take the place of one whose log has grown long, or that is closed."""
        old = play.session_id
        if old not in self._sessions:
            return
        self._known.heads[old] = max(self._known.heads.get(old, 0), play.head)
        if play.head > _LONGEST_LOG or play.closed:
            self._sessions.discard(old)
            await self._begin_session(fresh_id(play.random))
            self._known.forget("session_id", old)
            closing = v1.CloseSessionRequest(session_id=old, reason="its log is long enough")
            await self._ask("CloseSession", closing)

    async def _begin_session(self, session_id: str) -> None:
        await self._ask("CreateSession", v1.CreateSessionRequest(session_id=session_id, agent_id="coder"))
        self._sessions.add(session_id)
        self._known.note("session_id", session_id)

    async def _ask(self, method: str, request: Message) -> None:
        channel: Any = self._channels[0]
        await channel.unary_unary(f"{_SESSION_SERVICE}/{method}")(request.SerializeToString(), timeout=BOUND_SECONDS)


async def main() -> None:
    """Carry out the order that standard input holds."""
    order = Order(**json.loads(sys.stdin.readline()))
    async with AsyncExitStack() as stack:
        channels = [grpc.aio.insecure_channel(order.target, options=_OPTIONS) for _ in range(_CHANNELS)]
        for channel in channels:
            await stack.enter_async_context(channel)
        await Fuzzer(order, channels).run()


if __name__ == "__main__":
    asyncio.run(main())
