"""When Postgres goes away, nobody is told of a commit that did not happen, and the pool recovers."""

import asyncio
from collections.abc import Awaitable
from enum import StrEnum
from typing import TypeVar
from urllib.parse import urlsplit

import asyncpg
import pytest

from agent_runtime_server.core.errors import StoreUnavailable
from agent_runtime_server.stores.base import Outcome
from agent_runtime_server.stores.postgres.database import open_database
from enginekit.proxy import proxied
from enginekit.stores import TENANT, Stores, locked, opened, until_one_waits
from servicekit.waiting import until

T = TypeVar("T")


async def terminate(url: str, condition: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(
        f"""SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid() AND {condition}"""
    )
    await connection.close()


async def failure_of(work: Awaitable[object]) -> Exception | None:
    try:
        await work
    except Exception as error:  # noqa: BLE001 - the test looks at it
        return error
    return None


async def test_an_append_that_loses_its_connection_is_committed_all_the_same(stores: Stores, database_url: str) -> None:
    await stores.new_session("s1")
    async with asyncio.TaskGroup() as group, locked(database_url, "s1"):
        append = group.create_task(stores.append("s1", 1))
        pid = await until_one_waits(database_url)
        await terminate(database_url, f"pid = {pid}")
        assert await until_one_waits(database_url) != pid, "it is tried again"
    assert append.result().outcome is Outcome.DONE
    assert await stores.head("s1") == 2


async def test_nobody_notices_that_every_connection_was_cut(stores: Stores, database_url: str) -> None:
    await stores.new_session("s1")
    await asyncio.gather(*(stores.log.row(TENANT, "s1") for _ in range(8)))
    await terminate(database_url, "application_name = 'agent-runtime'")
    await asyncio.gather(*(stores.log.row(TENANT, "s1") for _ in range(8)))
    await stores.new_session("s2")
    assert (await stores.append("s1", 1)).outcome is Outcome.DONE


class Moment(StrEnum):
    """When the next append comes, after the connection of commits was cut."""

    AT_ONCE = "before that is noticed"
    NOTICED = "when it is noticed, while the connection would be kept"
    GIVEN_BACK = "when the connection had been given back before it was cut"


@pytest.mark.parametrize("moment", Moment)
async def test_nobody_notices_that_the_connection_of_commits_was_cut(
    stores: Stores, database_url: str, moment: Moment
) -> None:
    await stores.new_session("s1")
    other = await asyncpg.connect(database_url)
    assert (await stores.append("s1", 1)).outcome is Outcome.DONE
    if moment is Moment.GIVEN_BACK:
        await until(lambda: stores.commits.idle == 1, "the connection is given back")
    await other.execute(
        """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
           WHERE datname = current_database() AND application_name = 'agent-runtime'"""
    )
    if moment is Moment.NOTICED:
        await until(lambda: stores.commits.size == 0, "the cut is noticed")
    assert (await stores.append("s1", 2)).outcome is Outcome.DONE
    assert await stores.head("s1") == 3
    await other.close()


async def test_nobody_notices_a_connection_that_was_told_of_its_end_and_is_not_cut_yet(database_url: str) -> None:
    fields = b"SFATAL\0VFATAL\0C57P01\0Mterminating connection due to administrator command\0\0"
    farewell = b"E" + (len(fields) + 4).to_bytes(4, "big") + fields
    async with proxied(database_url) as line, open_database(line.url) as database:
        await database.read("SELECT 1")
        line.say_on_idle_lines(farewell)
        await asyncio.sleep(0.05)  # nothing shows that it has arrived; without the wait the test would pass too
        assert [row[0] for row in await database.read("SELECT 2")] == [2]


async def test_a_replica_whose_presence_was_lost_takes_its_lock_again(stores: Stores, database_url: str) -> None:
    await terminate(database_url, "application_name = 'agent-runtime presence'")
    async with asyncio.timeout(10):
        while await failure_of(stores.presence.keep()) is not None:
            continue
    await stores.presence.keep()
    connection = await asyncpg.connect(database_url)
    held = await connection.fetchval(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = $1 AND granted", stores.presence.replica
    )
    await connection.close()
    assert held == 1


async def test_one_that_lets_nobody_in_is_unavailable(stores: Stores, database_url: str) -> None:
    url = urlsplit(database_url)._replace(path="/gone").geturl()
    with pytest.raises(StoreUnavailable, match="unavailable"):
        async with open_database(url):
            pass
    stores.presence._url = url
    stores.presence._connection.terminate()
    with pytest.raises(StoreUnavailable, match="unavailable"):
        await stores.presence.keep()


async def test_a_postgres_that_is_not_there_is_unavailable() -> None:
    with pytest.raises(StoreUnavailable, match="unavailable"):
        async with open_database("postgresql://nobody@/nowhere?host=/nonexistent"):
            pass
    with pytest.raises(StoreUnavailable):
        async with opened("postgresql://nobody@/nowhere?host=/nonexistent"):
            pass


async def test_that_nobody_hears_the_farewell_of_a_replaced_connection_is_no_failure(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: list[object] = []

    async def close(connection: object, *, timeout: float | None = None) -> None:
        left.append(connection)
        raise BrokenPipeError

    async with open_database(database_url, most_connections=1) as database:
        async with database.connection() as connection:
            pooled = connection._con  # type: ignore[attr-defined] # which asyncpg keeps to itself
        with monkeypatch.context() as cut:
            cut.setattr(asyncpg.Connection, "close", close)
            await pooled.close()
        assert left == [pooled]
