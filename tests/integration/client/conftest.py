"""A scripted server and a client in a hurry."""

from collections.abc import AsyncIterator

import pytest

from agent_runtime_client import Client, Timing
from clientkit.server import ScriptedServer

HURRY = Timing(
    ping_seconds=5, silence_seconds=5, backoff_first=0.01, backoff_most=0.05, call_seconds=5, close_seconds=0.3
)


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    scripted = ScriptedServer()
    await scripted.start()
    yield scripted
    await scripted.stop()


@pytest.fixture
async def client(server: ScriptedServer) -> AsyncIterator[Client]:
    async with Client(server.target, timing=HURRY, metadata=(("authorization", "Bearer k"),)) as client:
        yield client
