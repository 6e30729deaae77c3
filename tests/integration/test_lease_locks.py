"""Locks on sessions' rows and on a replica's number: no deadlock, and none that is only believed to be held."""

import asyncio
import os
import signal

import asyncpg
import pytest

from agent_runtime_server.core.errors import StoreUnavailable
from agent_runtime_server.stores.base import LeaseAction
from agent_runtime_server.stores.postgres import leases
from enginekit.stores import locked, opened, until_one_waits


async def test_leases_are_renewed_in_the_order_in_which_batches_lock(database_url: str) -> None:
    async with opened(database_url) as stores:
        names = [f"s{number:02}" for number in reversed(range(20))]
        epochs = {}
        for name in names:
            await stores.new_session(name)
            epochs[name] = (await stores.append(name, 1, runnable=True, lease=LeaseAction.ACQUIRE)).lease_epoch
        async with asyncio.TaskGroup() as group, locked(database_url, "s00"):
            group.create_task(stores.leases.renew(epochs))
            await until_one_waits(database_url)
            connection = await asyncpg.connect(database_url)
            await connection.execute("SELECT 1 FROM sessions WHERE session_id <> 's00' FOR UPDATE NOWAIT")
            await connection.close()


async def test_a_connection_that_falls_silent_is_replaced(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "_PATIENCE_SECONDS", 0.5)
    async with opened(database_url) as stores:
        silent = stores.presence._connection
        backend = silent.get_server_pid()
        os.kill(backend, signal.SIGSTOP)
        try:
            with pytest.raises(StoreUnavailable):
                await stores.presence.keep()
            assert silent.is_closed()
            with pytest.raises(StoreUnavailable):  # for the silent one still holds the lock, and shows that we live
                await stores.presence.keep()
        finally:
            os.kill(backend, signal.SIGCONT)
        monkeypatch.undo()
        assert not await stores.presence.keep(), "the lock was lost for a moment"
        assert await stores.presence.keep()


async def test_a_replica_that_could_not_lock_its_number_tries_again(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_given: object) -> None:
        raise TimeoutError

    async with opened(database_url) as stores:
        stores.presence._connection.terminate()
        with monkeypatch.context() as patch:
            patch.setattr(leases, "_lock", refuse)
            with pytest.raises(StoreUnavailable):
                await stores.presence.keep()
        await stores.presence.keep()
        held = "SELECT count(*) AS locks FROM pg_locks WHERE locktype = 'advisory' AND objid = $1 AND granted"
        row = await stores.database.fetchrow(held, stores.presence.replica)
        assert row is not None
        assert row["locks"] == 1
