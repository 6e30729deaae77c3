"""A stream that is over leaves no connection behind, however long its objects wait to be collected as garbage."""

import gc
from collections.abc import AsyncIterator, Iterator

import pytest

from agent_runtime_client import Client, Connected, Timing
from clientkit.server import ScriptedServer, take
from killkit.proxy import Proxy, proxying
from servicekit.waiting import until

HURRY = Timing(backoff_first=0.01, backoff_most=0.05, close_seconds=0.3)


@pytest.fixture
async def proxy(server: ScriptedServer) -> AsyncIterator[Proxy]:
    async with proxying([server.target]) as proxy:
        yield proxy


@pytest.fixture
def no_garbage_collection() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_garbage_collection")
async def test_a_closed_client_has_no_connection(server: ScriptedServer, proxy: Proxy) -> None:
    async with Client(proxy.address, timing=HURRY) as client, client.chat("s1") as chat:
        stream = await server.chat()
        await stream.welcome()
        await take(chat, Connected)
        assert len(proxy.connections) == 1
    await until(lambda: not proxy.connections, "the end of the connection")


@pytest.mark.usefixtures("no_garbage_collection")
async def test_each_stream_takes_its_connection_with_it(server: ScriptedServer, proxy: Proxy) -> None:
    async with Client(proxy.address, timing=HURRY) as client, client.chat("s1") as chat:
        for _ in range(3):
            stream = await server.chat()
            await stream.welcome()
            await take(chat, Connected)
            await until(lambda: len(proxy.connections) == 1, "the one connection that is used")
            proxy.cut()
