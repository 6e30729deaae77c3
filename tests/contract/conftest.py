"""The stores of one replica on a database of its own, and a Valkey."""

from collections.abc import AsyncIterator

import pytest

from agent_runtime_server.embedded import embedded, scratch_state_dir
from enginekit.stores import Stores, opened


@pytest.fixture
async def stores(database_url: str) -> AsyncIterator[Stores]:
    async with opened(database_url) as made:
        yield made


@pytest.fixture(scope="session")
async def redis_url() -> AsyncIterator[str]:
    """The address of a Valkey that no other test file's process uses."""
    with scratch_state_dir() as state_dir:
        async with embedded(state_dir, want_postgres=False) as servers:
            assert servers.redis_url is not None
            yield servers.redis_url
