"""Several servers behind one target: who has to leave one goes to another."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from agent_runtime import v1
from agent_runtime_client import Client, Connected, Timing
from agent_runtime_client.channels import rotations
from clientkit.events import event
from clientkit.server import ChatStream, ScriptedServer, status

HURRY = Timing(backoff_first=0.01, backoff_most=0.01)


@pytest.fixture
async def servers() -> AsyncIterator[list[ScriptedServer]]:
    started = [ScriptedServer() for _ in range(3)]
    for server in started:
        await server.start()
    yield started
    for server in started:
        await server.stop()


@pytest.fixture
async def client(servers: list[ScriptedServer]) -> AsyncIterator[Client]:
    async with Client("ipv4:" + ",".join(server.target for server in servers), timing=HURRY) as client:
        yield client


async def attached(servers: list[ScriptedServer]) -> tuple[int, ChatStream]:
    """Return the next stream that is opened, and at which server."""
    while True:
        for number, server in enumerate(servers):
            if not server.chats.empty():
                return number, server.chats.get_nowait()
        await asyncio.sleep(0.005)


async def test_who_is_asked_to_go_goes_to_the_next_server(servers: list[ScriptedServer], client: Client) -> None:
    visited = []
    async with client.chat("s1"), asyncio.timeout(20):
        for number in range(1, 4):
            at, stream = await attached(servers)
            visited.append(at)
            await stream.welcome(event(number))
            await stream.send(v1.ChatResponse(go_away=v1.GoAway()))
    assert sorted(visited) == [0, 1, 2]


async def test_who_is_cut_off_goes_to_the_next_server(servers: list[ScriptedServer], client: Client) -> None:
    async with client.chat("s1"), asyncio.timeout(20):
        first, stream = await attached(servers)
        await stream.welcome()
        stream.end(status(grpc.StatusCode.UNAVAILABLE))
        second, _ = await attached(servers)
    assert first != second


async def test_who_is_refused_tries_the_next_server(servers: list[ScriptedServer], client: Client) -> None:
    draining = status(grpc.StatusCode.UNAVAILABLE, "SERVER_DRAINING", retry_delay=0.01)
    for server in servers[:2]:
        server.refusals.append(draining)
        server.refusals.append(draining)
    async with client.chat("s1"), asyncio.timeout(20):
        at, _ = await attached(servers)
    assert at == 2


async def test_who_is_refused_by_a_leaving_server_is_with_the_next_one_before_anybody_notices(
    servers: list[ScriptedServer], client: Client
) -> None:
    client._channels._opened = 0
    servers[0].refusals.append(status(grpc.StatusCode.UNAVAILABLE, "SERVER_DRAINING", retry_delay=0.9))
    async with client.chat("s1") as chat, asyncio.timeout(20):
        at, stream = await attached(servers)
        await stream.welcome(event(1))
        assert at != 0
        assert not servers[0].refusals
        assert isinstance(await anext(aiter(chat)), Connected)


async def test_a_call_that_a_leaving_server_refuses_is_answered_by_the_next(
    servers: list[ScriptedServer], client: Client
) -> None:
    client._channels._opened = 0
    servers[0].refusals.append(status(grpc.StatusCode.UNAVAILABLE, "SERVER_DRAINING", retry_delay=0.9))
    assert (await client.get_session("s1")).session_id == "s1"
    assert not servers[0].refusals


async def test_servers_that_are_not_there_are_passed_over(servers: list[ScriptedServer], client: Client) -> None:
    for server in servers[1:]:
        await server.stop()
    async with client.chat("s1"), asyncio.timeout(20):
        at, _ = await attached(servers)
        assert at == 0
    for _ in range(3):
        await client.get_session("s1")


@pytest.mark.parametrize(
    ("target", "tried"),
    [
        ("localhost:1", ["localhost:1"]),
        ("dns:///agents.example:1", ["dns:///agents.example:1"]),
        ("ipv4:1.1.1.1:1", ["ipv4:1.1.1.1:1"]),
        ("ipv4:1.1.1.1:1,2.2.2.2:2", ["ipv4:1.1.1.1:1,2.2.2.2:2", "ipv4:2.2.2.2:2,1.1.1.1:1"]),
        ("ipv6:[::1]:1,[::2]:2", ["ipv6:[::1]:1,[::2]:2", "ipv6:[::2]:2,[::1]:1"]),
        ("ipv4:", ["ipv4:"]),
    ],
)
def test_a_list_is_tried_from_each_of_its_addresses(target: str, tried: list[str]) -> None:
    assert rotations(target) == tried
