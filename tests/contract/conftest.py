"""The stores of one replica on a database of its own."""

from collections.abc import AsyncIterator

import pytest

from enginekit.stores import Stores, opened


@pytest.fixture
async def stores(database_url: str) -> AsyncIterator[Stores]:
    async with opened(database_url) as made:
        yield made
