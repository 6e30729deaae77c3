"""Replicas restarted one after the other while clients work: no turn fails, nothing is lost or done twice."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from agent_runtime_client import Journal
from agent_runtime_server.embedded import embedded, scratch_state_dir
from agent_runtime_server.mockllm.server import mock_server
from enginekit.ready_made import begin_with_postgres_data
from servicekit.demo import Player, check, playing
from servicekit.process import ServerProcess, serving

_CLIENTS = 3
_REPLICAS = 3


@pytest.fixture
async def replicas() -> AsyncIterator[list[ServerProcess]]:
    """Replicas on the same databases, and a model that takes its time."""
    async with AsyncExitStack() as stack:
        state_dir = stack.enter_context(scratch_state_dir())
        begin_with_postgres_data(state_dir)
        stores = await stack.enter_async_context(embedded(state_dir))
        model = await stack.enter_async_context(mock_server(delay_ms=8))
        settings = {
            "AGENT_RUNTIME_DATABASE_URL": stores.database_url,
            "AGENT_RUNTIME_REDIS_URL": stores.redis_url,
            "AGENT_RUNTIME_LLM_BASE_URL": model.base_url,
            "AGENT_RUNTIME_DRAIN_SECONDS": "25",
        }
        starting = [stack.enter_async_context(serving(settings)) for _ in range(_REPLICAS)]
        yield await asyncio.gather(*starting)


class Load:
    """Clients that play one demo turn after the other until told that it is enough."""

    def __init__(self, target: str, folder: Path) -> None:
        self.enough = asyncio.Event()
        self.played: list[Player] = []
        self._target = target
        self._folder = folder

    async def work(self, client: int) -> None:
        """Play turns, at least one, and check each."""
        turn = 0
        while not turn or not self.enough.is_set():
            await self._play(self._folder / f"{client}-{turn}")
            turn += 1

    async def _play(self, folder: Path) -> None:
        with Journal.open(folder / "journal") as journal:
            async with playing(self._target, folder / "project", journal) as player:
                assert not await player.watcher.follow()
                await check(player)
        self.played.append(player)


async def test_a_rolling_restart_is_not_noticed(replicas: list[ServerProcess], tmp_path: Path) -> None:
    load = Load("ipv4:" + ",".join(replica.target for replica in replicas), tmp_path)
    async with asyncio.TaskGroup() as tasks:
        for client in range(_CLIENTS):
            tasks.create_task(load.work(client))
        for replica in replicas:
            assert await replica.stop() == 0
            await replica.start()
        load.enough.set()
    watchers = [player.watcher for player in load.played]
    events = [event for watcher in watchers for event in watcher.events]
    assert not [event for event in events if event.HasField("turn_recovered")], "every step was finished"
    assert not [reason for watcher in watchers for reason in watcher.cut_off], "streams moved while they worked"
