"""The schema is made once, however many start together, and only from the texts that made it."""

import asyncio
from urllib.parse import urlsplit

import pytest

from agent_runtime_server.core.errors import StoreUnavailable
from agent_runtime_server.stores.postgres.database import Database, open_database
from agent_runtime_server.stores.postgres.migrations import MigrationError, migrate, packaged
from enginekit.stores import opened


async def applied(database: Database) -> list[int]:
    return [row["number"] for row in await database.fetch("SELECT number FROM migrations ORDER BY number")]


def test_no_two_migrations_have_one_number() -> None:
    numbers = [migration.number for migration in packaged()]
    assert numbers == sorted(set(numbers))


async def test_two_that_start_together_apply_each_once(empty_database_url: str) -> None:
    async with open_database(empty_database_url) as one, open_database(empty_database_url) as two:
        await asyncio.gather(migrate(one), migrate(two))
        assert await applied(one) == [migration.number for migration in packaged()]
    async with opened(empty_database_url) as stores:
        await stores.new_session("s1")


async def test_starting_again_applies_nothing(database_url: str) -> None:
    async with open_database(database_url) as database:
        before = await database.fetch("SELECT * FROM migrations")
        await migrate(database)
        assert await database.fetch("SELECT * FROM migrations") == before


async def test_who_may_make_no_tables_is_told_so(empty_database_url: str) -> None:
    async with open_database(empty_database_url) as owner:
        await owner.fetch("CREATE ROLE guest LOGIN")
        guest = urlsplit(empty_database_url)
        address = guest.netloc.rpartition("@")[2]
        async with open_database(guest._replace(netloc=f"guest@{address}").geturl()) as database:
            with pytest.raises(MigrationError, match="permission denied"):
                await migrate(database)
        await owner.fetch("DROP ROLE guest")


async def test_a_migration_that_was_changed_is_refused_and_leaves_the_lock_free(empty_database_url: str) -> None:
    async with open_database(empty_database_url) as database:
        await migrate(database)
        await database.fetch("UPDATE migrations SET sha256 = 'other'")
        for _ in range(2):
            with pytest.raises(MigrationError, match=r"0001_log\.sql was changed"):
                await migrate(database)


async def test_a_migration_that_fails_leaves_nothing_behind(empty_database_url: str) -> None:
    async with open_database(empty_database_url) as database:
        await database.fetch("CREATE TABLE approvals (in_the_way int)")
        with pytest.raises(Exception, match="already exists") as caught:
            await migrate(database)
        assert not isinstance(caught.value, StoreUnavailable)
        assert await applied(database) == []
        await database.fetch("DROP TABLE approvals")
        await migrate(database)
        assert await applied(database) == [migration.number for migration in packaged()]
