"""Messages between replicas over Redis sharded pub/sub: quick, only where someone listens, and never relied on."""

import asyncio
import random
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import structlog
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

_log = structlog.get_logger(__name__)

_PREFIX: Final = "agent-runtime:"
"""Before every topic; alone it is the channel that each replica listens to, so that they can be counted."""

_MOST_WAITING: Final = 10_000
_MOST_AT_ONCE: Final = 256
_PAUSE_SECONDS: Final = 0.5
_COUNT_SECONDS: Final = 5.0

Heard = Callable[[bytes], None]


class RedisBus:
    """The Bus on one Redis; `run` must run while it is used. What it cannot send is dropped.

    While no other replica is there, nothing is sent. One that comes says so before it serves anybody.
    """

    def __init__(self, client: "Redis", sender: str) -> None:
        self._client = client
        self._execute: Any = client.execute_command  # which redis-py leaves untyped
        self._sender = sender.encode() + b"\0"
        self._waiting: deque[tuple[str, bytes]] = deque(maxlen=_MOST_WAITING)
        self._listeners: dict[str, Heard] = {}
        self._changed: set[str] = set()  # topics to be subscribed to, or not any more
        self._to_send = asyncio.Event()
        self._to_change = asyncio.Event()
        self.alone = False  # no other replica is there
        self._heard_others = False  # since they began to be counted
        self.connected = True  # until it turns out otherwise
        self._ending = False

    def publish(self, topic: str, message: bytes) -> None:
        """Tell every other replica that listens to the topic."""
        if not self.alone:
            self._waiting.append((topic, message))
            self._to_send.set()

    def listen(self, topic: str, heard: Heard) -> None:
        """Call `heard` with what other replicas say on the topic."""
        self._listeners[topic] = heard
        self._changed.add(topic)
        self._to_change.set()

    def unlisten(self, topic: str) -> None:
        """Stop listening to the topic."""
        if self._listeners.pop(topic, None) is not None:
            self._changed.add(topic)
            self._to_change.set()

    async def run(self) -> None:
        """Send and receive until cancelled; while Redis is away, try again."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._send(), name="bus out")
            tasks.create_task(self._receive(), name="bus in")
            try:
                await asyncio.Event().wait()
            finally:  # a group tells its tasks once, and libraries that wait with a timeout can lose that
                self._ending = True

    async def _send(self) -> None:
        while not self._ending:
            await self._to_send.wait()
            self._to_send.clear()
            try:
                while self._waiting:
                    await self._send_some()
            except (RedisError, OSError):
                self._waiting.clear()
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _send_some(self) -> None:
        pipeline = self._client.pipeline(transaction=False)
        for _ in range(min(len(self._waiting), _MOST_AT_ONCE)):
            topic, message = self._waiting.popleft()
            pipeline.execute_command("SPUBLISH", _PREFIX + topic, self._sender + message)
        await pipeline.execute()

    async def _receive(self) -> None:
        while not self._ending:
            try:
                async with self._client.pubsub() as pubsub, asyncio.TaskGroup() as tasks:
                    await pubsub.ssubscribe(_PREFIX)
                    await self._execute("SPUBLISH", _PREFIX, self._sender)
                    self._tell(connected=True)
                    self._changed |= self._listeners.keys()
                    self._to_change.set()
                    tasks.create_task(self._subscribe(pubsub), name="bus subscriptions")
                    tasks.create_task(self._read(pubsub), name="bus messages")
                    tasks.create_task(self._count(), name="bus replicas")
            except* (RedisError, OSError) as errors:
                self._tell(connected=False, error=type(errors.exceptions[0]).__name__)
            self.alone = False
            await asyncio.sleep(_PAUSE_SECONDS * random.uniform(0.5, 1))  # noqa: S311 - replicas come back one by one

    def _tell(self, *, connected: bool, error: str = "") -> None:
        """Note whether messages arrive, and log when that changes."""
        if connected and not self.connected:
            _log.info("the bus is back")
        elif self.connected and not connected:
            _log.warning("the bus is away; what it would tell is looked for in the log", error=error)
        self.connected = connected

    async def _subscribe(self, pubsub: PubSub) -> None:
        """Follow what is listened to."""
        while not self._ending:
            await self._to_change.wait()
            self._to_change.clear()
            changed, self._changed = self._changed, set()
            wanted = [_PREFIX + topic for topic in changed if topic in self._listeners]
            unwanted = [_PREFIX + topic for topic in changed if topic not in self._listeners]
            if wanted:
                await pubsub.ssubscribe(*wanted)
            if unwanted:
                await pubsub.sunsubscribe(*unwanted)

    async def _count(self) -> None:
        """Find out again and again whether others are there; who comes in between is heard."""
        while not self._ending:
            self._heard_others = False
            answer = await self._execute("PUBSUB", "SHARDNUMSUB", _PREFIX)
            self.alone = answer[1] == 1 and not self._heard_others
            await asyncio.sleep(_COUNT_SECONDS)

    async def _read(self, pubsub: PubSub) -> None:
        while not self._ending:
            message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=None)
            if message is not None and message["type"] == "smessage":
                self._hear(message["channel"].decode().removeprefix(_PREFIX), message["data"])

    def _hear(self, topic: str, data: bytes) -> None:
        if data.startswith(self._sender):
            return
        self._heard_others, self.alone = True, False
        heard = self._listeners.get(topic)
        if heard is not None:
            try:
                heard(data.partition(b"\0")[2])
            except Exception:  # noqa: BLE001 - of another version, perhaps; nobody relies on it
                _log.exception("a message of another replica cannot be read")
