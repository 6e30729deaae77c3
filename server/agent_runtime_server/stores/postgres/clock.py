"""The database's time, so that deadlines do not depend on the clocks of those who set and settle them."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from agent_runtime_server.core.clock import from_nanos
from agent_runtime_server.core.errors import StoreUnavailable
from agent_runtime_server.stores.postgres.database import Database

_EVERY_SECONDS: Final = 10

_NOW = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS micros"


class DatabaseClock:
    """A Clock: what the database said last, carried on by this machine's steady clock, whatever the time is here."""

    def __init__(self, database: Database, machine: Callable[[], int] = time.monotonic_ns) -> None:
        self._database = database
        self._machine = machine
        self._ahead = time.time_ns() - machine()  # until the database is asked

    def __call__(self) -> Timestamp:
        """Return the time of the database."""
        return from_nanos((self._machine() + self._ahead) // 1000 * 1000)  # what Postgres keeps

    async def look(self) -> None:
        """Ask the database; its answer is taken for the time in the middle of the question."""
        asked = self._machine()
        row = await self._database.read_row(_NOW)
        assert row is not None, "a SELECT without FROM has a row"
        self._ahead = row["micros"] * 1000 - (asked + self._machine()) // 2

    async def run(self) -> None:
        """Look again and again until cancelled; while the database is away, go on by what it said."""
        while True:
            await asyncio.sleep(_EVERY_SECONDS)
            try:
                await self.look()
            except StoreUnavailable:
                continue
