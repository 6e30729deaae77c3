"""Token buckets that all replicas share: one script and one round trip, by the server's time."""

from collections.abc import Sequence
from importlib.resources import files
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from agent_runtime_server.core.buckets import Draw, Drawn
from agent_runtime_server.core.errors import StoreUnavailable

_PREFIX: Final = "agent-runtime:{bucket}:"  # the braces keep them on one node of a cluster
_SCRIPT: Final = files(__package__).joinpath("buckets.lua").read_text("utf-8")


class RedisBuckets:
    """The BucketStore in one Redis."""

    def __init__(self, client: "Redis") -> None:
        self._script = client.register_script(_SCRIPT)

    async def take(self, draws: Sequence[Draw], now: int | None = None) -> Drawn:
        """Draw from all of these buckets or from none; `now` is the server's time unless it is given."""
        told = ["" if now is None else str(now)]
        for draw in draws:
            needed = "" if draw.needed is None else str(draw.needed)
            told += [str(draw.rate.amount), str(draw.rate.capacity), needed, str(draw.parts)]
        try:
            wait, refuses = await self._script(keys=[_PREFIX + draw.bucket for draw in draws], args=told)
        except (RedisError, OSError) as error:
            raise StoreUnavailable(f"Redis is unavailable ({type(error).__name__})") from error
        return Drawn(int(wait), int(refuses) - 1 if refuses else None)
