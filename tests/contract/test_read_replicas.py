"""Lists and pages are read on replicas, never older than their caller must have them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import pytest
from structlog.testing import capture_logs

from agent_runtime import v1
from agent_runtime_server.core.errors import CallerError, StoreUnavailable
from agent_runtime_server.core.observe import Nobody
from agent_runtime_server.stores.base import Bus, History, SessionQuery
from agent_runtime_server.stores.postgres.approvals import PostgresApprovals
from agent_runtime_server.stores.postgres.database import open_database
from agent_runtime_server.stores.postgres.histories import PostgresHistories
from agent_runtime_server.stores.postgres.log import PostgresLog
from agent_runtime_server.stores.postgres.replicas import Replica, name_of
from agent_runtime_server.stores.recent_writers import RecentWriters
from enginekit.proxy import proxied
from enginekit.standby import Standby
from enginekit.stores import TENANT, Stores
from enginekit.wire import Line, Wire

ME, OTHER = f"{TENANT}/me", f"{TENANT}/other"


@dataclass
class Served(Nobody):
    """Notes who served reads, and what is watched."""

    by: list[str] = field(default_factory=list)
    watched: dict[str, Callable[[], float]] = field(default_factory=dict)

    def read_served(self, server: str) -> None:
        """Note one read."""
        self.by.append(server)

    def watch(self, name: str, text: str, value: Callable[[], float], **labels: str) -> None:
        """Note what is watched."""
        self.watched[name] = value


@dataclass
class Reading:
    """What one process reads by."""

    histories: PostgresHistories
    replicas: list[Replica]
    served: Served

    async def list(self, caller: str = OTHER, position: int = 0) -> set[str]:
        """Return the ids of all sessions, as this caller sees them."""
        query = SessionQuery(TENANT, 1000)
        rows = await self.histories.read(caller, position, lambda history: history.log.list_sessions(query))
        return {row.session.session_id for row in rows}

    async def until_fit(self) -> None:
        """Check until every replica is fit."""
        async with asyncio.timeout(60):
            while not all(replica.fit for replica in self.replicas):
                await self.histories.check()


@pytest.fixture
async def replicated(replica_server: Standby, stores: Stores, database_url: str) -> Standby:
    """A replica that has the database of this test."""
    await stores.new_session("s1")
    await replica_server.until_it_has(database_url)
    return replica_server


@asynccontextmanager
async def reading(
    stores: Stores, *urls: str, bus: Bus | None = None, most_lag_seconds: float = 60, sticky_seconds: float = 60
) -> AsyncIterator[Reading]:
    """Read on a primary with these replicas."""
    served, replicas = Served(), []
    async with AsyncExitStack() as stack:
        for number, url in enumerate(urls):
            database = await stack.enter_async_context(open_database(url, least_connections=0, answer_seconds=2))
            history = History(PostgresLog(database, stores.writer, 0), PostgresApprovals(database))
            replicas.append(Replica(f"r{number}", database, history, most_lag_seconds))
        histories = PostgresHistories(
            stores.database,
            History(stores.log, stores.approvals),
            replicas,
            bus or Wire().line(),
            served,
            sticky_seconds=sticky_seconds,
        )
        await histories.check()
        yield Reading(histories, replicas, served)


@pytest.fixture
async def here(replicated: Standby, stores: Stores, database_url: str) -> AsyncIterator[Reading]:
    async with reading(stores, replicated.url_of(database_url)) as made:
        yield made


async def test_replicas_are_asked_in_turn(replicated: Standby, stores: Stores, database_url: str) -> None:
    url = replicated.url_of(database_url)
    async with reading(stores, url, url) as here:
        for _ in range(4):
            assert await here.list() == {"s1"}
        assert here.served.by == ["r1", "r0", "r1", "r0"]


async def test_without_replicas_the_primary_is_asked_and_nobody_needs_a_position(stores: Stores) -> None:
    async with reading(stores) as here:
        assert await here.histories.wrote(ME) == 0
        assert await here.list(ME) == set()
        assert here.served.by == ["primary"]


async def test_who_sends_back_a_position_reads_what_they_wrote(here: Reading, stores: Stores) -> None:
    for number in range(20):
        await stores.new_session(f"mine-{number}")
        position = await here.histories.wrote(ME)
        assert f"mine-{number}" in await here.list(ME, position)


async def test_positions_of_callers_that_come_together_are_read_together(here: Reading, stores: Stores) -> None:
    first = await here.histories.wrote(ME)
    await stores.new_session("s2")
    positions = await asyncio.gather(*(here.histories.wrote(f"caller-{number}") for number in range(20)))
    assert min(positions) > first
    assert len(set(positions)) <= 2


async def test_who_has_just_written_and_sends_no_position_is_served_by_the_primary(
    here: Reading, stores: Stores
) -> None:
    await stores.new_session("mine")
    await here.histories.wrote(ME)
    assert "mine" in await here.list(ME)
    await here.list(OTHER)
    assert here.served.by == ["primary", "r0"]


async def test_after_a_while_it_is_served_by_replicas_again(
    replicated: Standby, stores: Stores, database_url: str
) -> None:
    async with reading(stores, replicated.url_of(database_url), sticky_seconds=0) as here:
        await here.histories.wrote(ME)
        await here.list(ME)
        assert here.served.by == ["r0"]


async def test_other_processes_hear_who_has_written(replicated: Standby, stores: Stores, database_url: str) -> None:
    wire, url = Wire(), replicated.url_of(database_url)
    lines: list[Line] = [wire.line(), wire.line()]
    async with reading(stores, url, bus=lines[0]) as here, reading(stores, url, bus=lines[1]) as there:
        for _ in range(3):
            await here.histories.wrote(ME)
        await there.list(ME)
        assert there.served.by == ["primary"]
        assert len(lines[0].sent) == 1, "often enough"


def test_who_has_written_is_forgotten_in_time() -> None:
    writers = RecentWriters(Wire().line(), 0)
    for number in range(1000):
        writers.note(f"caller-{number}")
    assert "caller-0" not in writers
    assert len(writers._until) < 10


class TestLag:
    @pytest.fixture(autouse=True)
    async def _paused(self, replicated: Standby, database_url: str) -> AsyncIterator[None]:
        await replicated.pause(database_url)
        yield
        await replicated.resume(database_url)

    async def test_a_replica_that_is_behind_a_position_is_passed_over(
        self, here: Reading, stores: Stores, replicated: Standby, database_url: str
    ) -> None:
        await stores.new_session("mine")
        position = await here.histories.wrote(ME)
        assert "mine" in await here.list(ME, position)
        assert "mine" not in await here.list(OTHER), "who has written nothing may be told a little late"
        assert here.served.by == ["primary", "r0"]
        await replicated.resume(database_url)
        await replicated.until_it_has(database_url)
        assert "mine" in await here.list(ME, position)
        assert here.served.by[-1] == "r0", "and asked as soon as it is not"

    async def test_one_that_is_late_is_left_out_and_comes_back_by_itself(
        self, replicated: Standby, stores: Stores, database_url: str
    ) -> None:
        async with reading(stores, replicated.url_of(database_url), most_lag_seconds=0.05) as here:
            await here.until_fit()
            await stores.new_session("s2")
            with capture_logs() as logs:
                async with asyncio.timeout(60):
                    while here.replicas[0].fit:
                        await here.histories.check()
            assert [entry["event"] for entry in logs] == ["a database replica is left out"]
            assert "s2" in await here.list()
            assert here.served.by == ["primary"]
            assert here.served.watched["database_replica_fit"]() == 0
            assert here.served.watched["database_replica_lag_seconds"]() > 0.05
            assert here.served.watched["database_replica_lag_bytes"]() > 0
            (told,) = here.histories.dependencies()
            assert (told.state, told.required) == (v1.DEPENDENCY_STATE_DOWN, False)
            assert "behind" in told.message
            await replicated.resume(database_url)
            await here.until_fit()
            assert "s2" in await here.list()
            assert here.served.by[-1] == "r0"
            assert here.served.watched["database_replica_lag_bytes"]() == 0

    async def test_what_it_does_not_know_yet_is_asked_of_the_primary(self, here: Reading, stores: Stores) -> None:
        await stores.new_session("s2")

        async def row(history: History) -> str:
            found = await history.log.row(TENANT, "s2")
            if found is None:
                raise CallerError(v1.ERROR_REASON_SESSION_NOT_FOUND, "there is no session s2")
            return found.session.session_id

        assert await here.histories.read(OTHER, 0, row) == "s2"
        assert here.served.by == ["primary"]


async def test_a_replica_that_dies_is_left_out_and_comes_back_by_itself(
    here: Reading, replicated: Standby, stores: Stores
) -> None:
    assert await here.list() == {"s1"}
    await replicated.crash()
    assert await here.list() == {"s1"}, "nobody notices"
    assert here.served.by == ["r0", "primary"]
    assert not here.replicas[0].fit
    await here.histories.check()
    assert not here.replicas[0].fit
    await replicated.start()
    await here.until_fit()
    assert await here.list() == {"s1"}
    assert here.served.by[-1] == "r0"


async def test_one_that_falls_silent_is_not_waited_for(replicated: Standby, stores: Stores, database_url: str) -> None:
    async with proxied(replicated.url_of(database_url)) as line, reading(stores, line.url) as here:
        line.stall()
        assert await here.list() == {"s1"}
        assert here.served.by == ["primary"]
        await here.until_fit()


async def test_one_that_is_no_standby_is_never_asked(stores: Stores, database_url: str) -> None:
    async with reading(stores, database_url) as here:
        await here.list()
        assert here.served.by == ["primary"]
        assert here.histories.dependencies()[0].message == "is no standby"


async def test_while_the_primary_is_away_replicas_still_serve(
    replicated: Standby, stores: Stores, database_url: str
) -> None:
    async with proxied(database_url) as line, open_database(line.url) as primary:
        url = replicated.url_of(database_url)
        async with reading(stores, url) as other:
            histories = PostgresHistories(
                primary, History(PostgresLog(primary, stores.writer, 0), stores.approvals), other.replicas,
                Wire().line(), other.served,
            )  # fmt: skip
            here = Reading(histories, other.replicas, other.served)
            line.refuse()
            await here.histories.check()
            assert await here.list() == {"s1"}
            assert await here.histories.wrote(ME) == 0
            with pytest.raises(StoreUnavailable):
                await here.list(ME)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("postgresql://user:secret@replica-1.internal:5433/db?sslmode=require", "replica-1.internal:5433"),
        ("postgresql://user:secret@replica-1/db", "replica-1"),
        ("postgresql://user@/db?host=/var/run/postgresql", "/var/run/postgresql"),
    ],
)
def test_a_replica_is_named_without_its_credentials(url: str, name: str) -> None:
    assert name_of(url) == name
