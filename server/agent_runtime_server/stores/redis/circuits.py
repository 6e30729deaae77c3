"""Circuit breakers that all replicas share: one script, by the server's time."""

from dataclasses import asdict
from importlib.resources import files
from typing import Final

import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError

from agent_runtime_server.core.circuit import Circuit, Operation, Phase, Rules
from agent_runtime_server.core.errors import StoreUnavailable
from agent_runtime_server.stores.shared import Stepped

_PREFIX: Final = "agent-runtime:circuit:"
_SCRIPT: Final = files(__package__).joinpath("circuit.lua").read_text("utf-8")


class RedisCircuits:
    """The Circuits in one Redis."""

    def __init__(self, client: "Redis", rules: Rules) -> None:
        self._rules = orjson.dumps(asdict(rules))
        self._script = client.register_script(_SCRIPT)

    async def apply(self, name: str, operation: Operation, now: int | None = None) -> Stepped:
        """Take one step of a circuit; `now` is the server's time unless it is given."""
        told = orjson.dumps({"kind": type(operation).__name__.lower()} | asdict(operation))
        moment = "" if now is None else str(now)
        try:
            answer, circuit, at = await self._script(keys=[_PREFIX + name], args=[self._rules, told, moment])
        except (RedisError, OSError) as error:
            raise StoreUnavailable(f"Redis is unavailable ({type(error).__name__})") from error
        fields = orjson.loads(circuit)
        fields["phase"] = Phase(fields["phase"])
        return Stepped(bool(answer), Circuit(**fields), int(at))
