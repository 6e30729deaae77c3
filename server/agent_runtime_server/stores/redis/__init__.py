"""What may be lost and makes things fast: Redis or Valkey."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from redis.asyncio import Redis
from redis.exceptions import RedisError

from agent_runtime_server.core.circuit import Rules
from agent_runtime_server.core.errors import StoreUnavailable
from agent_runtime_server.stores.redis.buckets import RedisBuckets
from agent_runtime_server.stores.redis.bus import RedisBus
from agent_runtime_server.stores.redis.circuits import RedisCircuits


class Cache:
    """A connection pool to one Redis."""

    def __init__(self, client: "Redis") -> None:
        self._client = client

    def bus(self, sender: str) -> RedisBus:
        """Return the line to the other replicas, under a name no other has."""
        return RedisBus(self._client, sender)

    def circuits(self, rules: Rules) -> RedisCircuits:
        """Return the circuit breakers that all replicas share."""
        return RedisCircuits(self._client, rules)

    def buckets(self) -> RedisBuckets:
        """Return the token buckets that all replicas share."""
        return RedisBuckets(self._client)

    async def probe(self) -> None:
        """Raise StoreUnavailable unless Redis answers."""
        try:
            await self._client.ping()
        except (RedisError, OSError) as error:
            raise StoreUnavailable(f"Redis is unavailable ({type(error).__name__})") from error


@asynccontextmanager
async def open_cache(url: str) -> AsyncIterator[Cache]:
    """Reach Redis at `url` (TCP or unix socket); it need not be there yet."""
    client = Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2)
    try:
        yield Cache(client)
    finally:
        await client.aclose()
