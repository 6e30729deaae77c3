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

    While no other replica is there, nothing is sent; one that comes says so before it serves anybody. Nor is anything
    sent on a topic to which no other one listened the last time: who begins to says something there, which is heard.
    """

    def __init__(self, client: "Redis", sender: str) -> None:
        self._client = client
        self._execute: Any = client.execute_command  # which redis-py leaves untyped
        self._sender = sender.encode() + b"\0"
        self._waiting: deque[tuple[str, bytes]] = deque(maxlen=_MOST_WAITING)
        self._listeners: dict[str, Heard] = {}
        self._changed: set[str] = set()  # topics to be subscribed to, or not any more
        self._joined: set[str] = set()  # topics that are listened to, as Redis has confirmed
        self._unheard: set[str] = set()  # of those, the ones to which nobody else listened the last time
        self._to_send = asyncio.Event()
        self._to_change = asyncio.Event()
        self.alone = False  # no other replica is there
        self._heard = 0  # messages of others
        self.connected = True  # until it turns out otherwise
        self._ending = False

    def publish(self, topic: str, message: bytes) -> None:
        """Tell every other replica that listens to the topic."""
        if not self.alone and topic not in self._unheard:
            self._waiting.append((topic, message))
            self._to_send.set()

    def listen(self, topic: str, heard: Heard) -> None:
        """Call `heard` with what other replicas say on the topic."""
        self._listeners[topic] = heard
        self._changed.add(topic)
        self._to_change.set()

    def unlisten(self, topic: str) -> None:
        """Stop listening to the topic."""
        self._joined.discard(topic)
        self._unheard.discard(topic)
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
        some = [self._waiting.popleft() for _ in range(min(len(self._waiting), _MOST_AT_ONCE))]
        for topic, message in some:
            pipeline.execute_command("SPUBLISH", _PREFIX + topic, self._sender + message)
        heard = self._heard
        reached = zip(some, await pipeline.execute(), strict=True)
        if heard == self._heard:  # else somebody may have begun to listen just now
            self._unheard.update(topic for (topic, _), count in reached if count == 1 and topic in self._joined)

    async def _receive(self) -> None:
        while not self._ending:
            try:
                async with self._client.pubsub() as pubsub, asyncio.TaskGroup() as tasks:
                    await pubsub.ssubscribe(*(_PREFIX + topic for topic in ("", *self._listeners)))
                    await self._execute("SPUBLISH", _PREFIX, self._sender)
                    self._tell(connected=True)
                    tasks.create_task(self._subscribe(pubsub), name="bus subscriptions")
                    tasks.create_task(self._read(pubsub), name="bus messages")
                    tasks.create_task(self._count(), name="bus replicas")
            except* (RedisError, OSError) as errors:
                self._tell(connected=False, error=type(errors.exceptions[0]).__name__)
            self.alone = False
            self._joined.clear()
            self._unheard.clear()
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
            wanted = changed & self._listeners.keys()
            unwanted = changed - wanted
            if wanted:
                await pubsub.ssubscribe(*(_PREFIX + topic for topic in wanted))
            if unwanted:
                await pubsub.sunsubscribe(*(_PREFIX + topic for topic in unwanted))

    async def _count(self) -> None:
        """Find out again and again whether others are there; who comes in between is heard."""
        while not self._ending:
            self._unheard.clear()  # for what somebody said there may have been lost
            heard = self._heard
            answer = await self._execute("PUBSUB", "SHARDNUMSUB", _PREFIX)
            self.alone = answer[1] == 1 and heard == self._heard
            await asyncio.sleep(_COUNT_SECONDS)

    async def _read(self, pubsub: PubSub) -> None:
        while not self._ending:
            message = await pubsub.get_message(timeout=None)
            match message:
                case {"type": "smessage", "channel": bytes() as channel, "data": bytes() as data}:
                    self._hear(_topic(channel), data)
                case {"type": "ssubscribe", "channel": bytes() as channel}:
                    self._joined |= {_topic(channel)} & self._listeners.keys()

    def _hear(self, topic: str, data: bytes) -> None:
        if data.startswith(self._sender):
            return
        self._heard += 1
        self.alone = False
        if topic:
            self._unheard.discard(topic)
        else:
            self._unheard.clear()  # another one has come, or come back
        heard = self._listeners.get(topic)
        if heard is not None:
            try:
                heard(data.partition(b"\0")[2])
            except Exception:  # noqa: BLE001 - of another version, perhaps; nobody relies on it
                _log.exception("a message of another replica cannot be read")


def _topic(channel: bytes) -> str:
    return channel.decode().removeprefix(_PREFIX)
