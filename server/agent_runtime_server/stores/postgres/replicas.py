"""Read replicas: which of them are fit to be asked, and how far each has come."""

from collections import deque
from time import monotonic
from typing import Final
from urllib.parse import parse_qs, urlsplit

import asyncpg
import structlog

from agent_runtime import v1
from agent_runtime_server.core.clock import now
from agent_runtime_server.core.errors import StoreUnavailable
from agent_runtime_server.stores.base import History
from agent_runtime_server.stores.postgres.database import Database

_log = structlog.get_logger(__name__)

_MOST_SAMPLES: Final = 120

_PLACE: Final = """SELECT pg_is_in_recovery() AS standby,
    coalesce(pg_last_wal_replay_lsn() - '0/0'::pg_lsn, 0)::bigint AS replayed"""


class Replica:
    """One read replica."""

    def __init__(self, name: str, database: Database, history: History, most_lag_seconds: float) -> None:
        self.name = name
        self.history = history
        self.problem = "not asked yet"  # why it is not fit, in English; empty when it is
        self.lag_seconds = 0.0
        self.lag_bytes = 0
        self._database = database
        self._most_lag_seconds = most_lag_seconds
        self._replayed = 0
        self._ahead: deque[tuple[float, int]] = deque()  # where the primary was, and when; not reached yet
        self._dependency = v1.Dependency(name=f"postgres-replica.{name}")

    @property
    def fit(self) -> bool:
        """Whether it may be asked."""
        return not self.problem

    async def check(self, primary: int | None) -> None:
        """Find out how far it is behind the primary's position, None while that is not known."""
        started = monotonic()
        if primary is not None and (not self._ahead or primary > self._ahead[-1][1]):
            self._note(started, primary)
        try:
            problem = await self._look()
        except (StoreUnavailable, asyncpg.PostgresError) as error:
            problem = f"does not answer ({type(error.__cause__ or error).__name__})"
        self._dependency.latency.FromMicroseconds(int((monotonic() - started) * 1_000_000))
        self._dependency.check_time.CopyFrom(now())
        self._judge(problem)

    def _note(self, moment: float, primary: int) -> None:
        if len(self._ahead) == _MOST_SAMPLES:
            self._ahead.pop()  # the oldest tells how late it is
        self._ahead.append((moment, primary))

    async def _look(self) -> str:
        row = await self._database.read_row(_PLACE)
        assert row is not None, "a SELECT without FROM has a row"
        if not row["standby"]:
            return "is no standby"
        self._replayed = row["replayed"]
        self.lag_bytes = max(0, self._ahead[-1][1] - self._replayed) if self._ahead else 0
        while self._ahead and self._ahead[0][1] <= self._replayed:
            self._ahead.popleft()
        self.lag_seconds = monotonic() - self._ahead[0][0] if self._ahead else 0.0
        return f"is {self.lag_seconds:.1f} s behind" if self.lag_seconds > self._most_lag_seconds else ""

    def failed(self, error: Exception) -> None:
        """Leave it out until the next check finds it well."""
        self._judge(f"failed a read ({type(error.__cause__ or error).__name__})")

    def _judge(self, problem: str) -> None:
        if problem and self.fit:
            _log.warning("a database replica is left out", replica=self.name, problem=problem)
        elif self.problem and not problem:
            _log.info("a database replica is asked", replica=self.name)
        self.problem = problem

    async def has(self, position: int) -> bool:
        """Tell whether it has come as far as a position, by what is known or by asking."""
        if self._replayed >= position:
            return True
        row = await self._database.read_row(_PLACE)
        assert row is not None, "a SELECT without FROM has a row"
        self._replayed = row["replayed"]
        return self._replayed >= position

    def dependency(self) -> v1.Dependency:
        """Return its state as SystemService tells it."""
        dependency = v1.Dependency()
        dependency.CopyFrom(self._dependency)
        dependency.state = v1.DEPENDENCY_STATE_UP if self.fit else v1.DEPENDENCY_STATE_DOWN
        dependency.message = self.problem
        return dependency


def name_of(url: str) -> str:
    """Return what tells a server apart in metrics and logs: its address, without credentials."""
    parts = urlsplit(url)
    hosts = parse_qs(parts.query).get("host", [""])
    host, port = parts.hostname or hosts[0], parts.port
    return f"{host}:{port}" if port else host
