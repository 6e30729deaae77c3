"""Pools of connections follow the load, and nobody notices that a connection was cut."""

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import asyncpg
import pytest

from agent_runtime import v1
from agent_runtime_server.core.errors import StoreUnavailable
from agent_runtime_server.core.observe import Nobody
from agent_runtime_server.stores.base import Frame
from agent_runtime_server.stores.postgres import database as pools
from agent_runtime_server.stores.postgres.approvals import PostgresApprovals
from agent_runtime_server.stores.postgres.database import Database, open_database
from agent_runtime_server.stores.postgres.leases import announce
from agent_runtime_server.stores.postgres.log import PostgresLog
from enginekit.proxy import Proxy, proxied
from enginekit.stores import TENANT, Stores, approval_row, beginning, opened
from enginekit.turns import until_true


@dataclass
class Waits(Nobody):
    """Notes how long callers waited for a connection."""

    seconds: list[float] = field(default_factory=list)

    def connection_acquired(self, pool: str, seconds: float) -> None:
        """Note one."""
        self.seconds.append(seconds)


@pytest.fixture
async def line(database_url: str) -> AsyncIterator[Proxy]:
    async with proxied(database_url) as proxy:
        yield proxy


@pytest.fixture
async def behind(line: Proxy) -> AsyncIterator[Database]:
    """A pool behind the proxy."""
    async with open_database(line.url, most_connections=4) as database:
        yield database


@pytest.fixture
async def log(behind: Database, stores: Stores) -> PostgresLog:
    """A log whose every connection is open and has its statements prepared."""
    log = PostgresLog(behind, stores.writer, 1)
    await log.create(beginning("s1"))
    await asyncio.gather(*(log.row(TENANT, "s1") for _ in range(4)))
    return log


class TestSize:
    async def test_a_pool_grows_with_the_load_up_to_its_most_and_shrinks_afterwards(self, database_url: str) -> None:
        waits = Waits()
        async with open_database(database_url, most_connections=3, idle_seconds=0.2, observer=waits) as database:
            assert (database.size, database.idle) == (1, 1)
            enough = asyncio.Event()

            async def hold() -> None:
                async with database.connection() as connection:
                    await enough.wait()
                    await connection.execute("SELECT pg_sleep(0.1)")

            async with asyncio.TaskGroup() as group:
                for _ in range(9):
                    group.create_task(hold())
                await until_true(lambda: database.size == 3 and database.waiting == 6)
                assert database.idle == 0
                enough.set()
            assert len(waits.seconds) == 9
            assert sorted(waits.seconds)[3] >= 0.1, "six of them waited for the first ones"
            await until_true(lambda: database.size == 0)
            await database.probe()
            assert database.size == 1

    async def test_who_waits_for_too_long_is_told(self, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pools, "_ACQUIRE_SECONDS", 0.1)
        async with open_database(database_url, most_connections=1) as database, database.connection():
            with pytest.raises(StoreUnavailable, match="TimeoutError"):
                await database.probe()
            assert database.waiting == 0

    async def test_a_replica_has_ten_connections_however_much_is_asked(self, database_url: str) -> None:
        async with opened(database_url) as stores:
            await stores.new_session("s1")
            asked = [stores.database.read("SELECT pg_sleep(0.05)") for _ in range(50)]
            *_, connections = await asyncio.gather(*asked, stores.append("s1", 1), _connections(database_url))
            assert connections == 10


class TestStatements:
    async def test_stay_prepared(self, stores: Stores) -> None:
        await stores.new_session("s1")
        async with stores.database.connection() as connection:
            prepared = "SELECT count(*) FROM pg_prepared_statements"
            before = await connection.fetchval(prepared)
        for _ in range(5):
            await stores.log.load(TENANT, "s1", 1)
        async with stores.database.connection() as connection:
            assert await connection.fetchval(prepared) == before + 1


class TestCutConnections:
    async def test_reads_do_not_notice(self, log: PostgresLog, line: Proxy) -> None:
        line.cut_at_next_use()
        rows = await asyncio.gather(*(log.row(TENANT, "s1") for _ in range(4)))
        assert all(rows)
        assert line.lost

    async def test_one_cut_connection_is_reason_enough_to_renew_the_others(self, log: PostgresLog, line: Proxy) -> None:
        lines = line.lines
        line.lose_request()
        await log.row(TENANT, "s1")
        await asyncio.gather(*(log.row(TENANT, "s1") for _ in range(4)))
        assert line.lines == lines + 4

    async def test_a_session_is_made_once(self, log: PostgresLog, line: Proxy) -> None:
        line.lose_answer()
        _, made = await log.create(beginning("s3"))
        assert made, "and not there before"
        assert line.lost == ["answer"]
        assert len(await log.events(TENANT, "s3", 0, 10)) == 1

    async def test_what_lies_beside_the_log_is_changed_once(self, log: PostgresLog, line: Proxy) -> None:
        line.lose_answer()
        changed = await log.update(TENANT, "s1", "", "Two", None, None, set_expire=False)
        assert changed is not None
        assert changed.session.title == "Two"

    async def test_a_change_that_goes_by_the_etag_is_not_repeated(self, log: PostgresLog, line: Proxy) -> None:
        row = await log.row(TENANT, "s1")
        assert row is not None
        await log.update(TENANT, "s1", row.session.etag, "One", None, None, set_expire=False)
        line.lose_answer()
        with pytest.raises(StoreUnavailable):
            await log.update(TENANT, "s1", "any", "Two", None, None, set_expire=False)

    async def test_a_claim_whose_answer_was_lost_is_known_by_its_frame(
        self, log: PostgresLog, behind: Database, stores: Stores, line: Proxy
    ) -> None:
        approvals = PostgresApprovals(behind)
        await stores.append("s1", 1, approvals=(approval_row("ap-1", "s1"),))
        claimed = v1.Approval(approval_id="ap-1", session_id="s1", revision=2)
        line.lose_answer()
        await approvals.replace_claim(TENANT, 1, claimed, Frame("reviewer", "f1", b""))
        assert await log.frame("reviewer", "f1") == (0, b"")
        found = await approvals.get(TENANT, "ap-1")
        assert found is not None
        assert found.approval.revision == 2

    async def test_a_line_that_falls_silent_is_given_up_and_replaced(
        self, line: Proxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pools, "_ANSWER_SECONDS", 0.3)
        async with open_database(line.url) as database:
            await database.probe()
            line.stall()
            with pytest.raises(StoreUnavailable, match="TimeoutError"):
                await database.probe()
            await database.probe()


def _notices_a_dead_peer(transport: asyncio.BaseTransport) -> bool:
    found = transport.get_extra_info("socket")
    patience = hasattr(socket, "TCP_USER_TIMEOUT") and found.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
    return bool(found.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)) and patience in (False, 10_000)


async def test_a_tcp_connection_notices_a_dead_peer(line: Proxy) -> None:
    async with open_database(line.tcp_url) as database, database.connection() as connection:
        assert _notices_a_dead_peer(connection._con._transport)  # type: ignore[attr-defined]
        assert await connection.fetchval("SHOW statement_timeout") == "10s"


async def test_the_connection_that_shows_a_replicas_life_does_so_on_both_sides(line: Proxy) -> None:
    async with announce(line.tcp_url) as presence:
        assert _notices_a_dead_peer(presence._connection._transport)  # type: ignore[attr-defined]
        settings = "SELECT reset_val FROM pg_settings WHERE name = 'tcp_keepalives_idle'"
        assert await presence._connection.fetchval(settings) == "10", "else the lock of a lost machine stays for hours"


async def _connections(url: str) -> int:
    """Return how many connections replicas have to a database, as soon as one of them waits for room."""
    connection = await asyncpg.connect(url)
    try:
        async with asyncio.timeout(20):
            while True:
                found: int = await connection.fetchval(
                    """SELECT count(*) FROM pg_stat_activity
                       WHERE datname = current_database() AND application_name LIKE 'agent-runtime%'"""
                )
                if found >= 10:
                    return found
    finally:
        await connection.close()
