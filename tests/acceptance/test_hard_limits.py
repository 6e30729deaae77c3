"""Whatever a peer sends or holds open costs bounded memory, is answered clearly, and leaves the server well."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from grpc_status import rpc_status

from agent_runtime import v1
from servicekit.process import ServerProcess, serving
from servicekit.service import Service, reason_of
from servicekit.streams import refusal

PER_CONNECTION, TOTAL, CONNECTIONS = 4, 10, 40
SETTINGS = {
    "AGENT_RUNTIME_MAX_STREAMS_PER_CONNECTION": str(PER_CONNECTION),
    "AGENT_RUNTIME_MAX_STREAMS": str(TOTAL),
    "AGENT_RUNTIME_MAX_CONNECTIONS": str(CONNECTIONS),
}
MOST_GROWTH = 32 << 20  # bytes
TOO_LARGE = 5 << 20  # bytes
BOMB = 96 << 20  # bytes, of which some hundred kilobytes are sent
REFUSED = grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.fixture(scope="module")
async def limited() -> AsyncIterator[ServerProcess]:
    async with serving(SETTINGS) as server:
        yield server


@asynccontextmanager
async def connected(server: ServerProcess) -> AsyncIterator[Service]:
    """A connection of its own: channels to one target would share one."""
    service = Service(server.target, options=(("grpc.use_local_subchannel_pool", 1),))
    async with service.channel:
        yield service


async def is_well(server: ServerProcess) -> bool:
    async with connected(server) as service, asyncio.timeout(60):
        return bool((await service.system.GetServerStatus(v1.GetServerStatusRequest())).version)


def resident_bytes(server: ServerProcess) -> int:
    assert server._process is not None
    found = re.search(r"^VmHWM:\s+(\d+) kB", Path(f"/proc/{server._process.pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


async def refused(opened: Callable[[], Any]) -> None:
    """Check that a stream ends as one too many."""
    error = await refusal(opened)
    assert (error.code(), reason_of(error)[0]) == (REFUSED, "TOO_MANY_STREAMS")
    status = rpc_status.from_call(error)  # type: ignore[arg-type] # it reads what both kinds of call have
    assert status is not None
    retry = RetryInfo()
    assert any(detail.Unpack(retry) for detail in status.details)
    assert retry.retry_delay.seconds > 0


async def held(stack: AsyncExitStack, service: Service, count: int) -> Sequence[Any]:
    """Hold reviewers' streams open."""
    streams = [await stack.enter_async_context(service.review(f"r{number}")) for number in range(count)]
    for stream in streams:
        await stream.frame("caught_up")
    return streams


async def until_one_more_fits(service: Service) -> None:
    """Come back as the refusal asks for, only sooner."""
    async with asyncio.timeout(60):
        while True:
            async with service.review("one-more") as stream:
                await stream.until(lambda: stream.frames or stream.ended or None)
                if stream.frames:
                    return


async def test_a_connection_holds_so_many_streams(limited: ServerProcess) -> None:
    async with connected(limited) as service, AsyncExitStack() as stack:
        await held(stack, service, PER_CONNECTION)
        await refused(partial(service.review, "too-many"))
        await refused(partial(service.chat, await service.new_session()))
        assert await is_well(limited)
        await stack.aclose()
        await until_one_more_fits(service)


async def test_a_replica_holds_so_many_streams() -> None:
    # It has a server of its own, which holds no stream of another test that is just ending.
    async with serving(SETTINGS) as server, AsyncExitStack() as connections, AsyncExitStack() as streams:
        services = [await connections.enter_async_context(connected(server)) for _ in range(4)]
        for service, count in zip(services, (4, 4, 2, 0), strict=True):
            await held(streams, service, count)
        await refused(partial(services[3].review, "too-many"))
        await streams.aclose()
        await until_one_more_fits(services[3])


async def _sent(channel: Any, path: str, size: int, **options: Any) -> None:
    await channel.unary_unary(path)(bytes(size), **options)


async def _streamed(channel: Any, path: str, size: int, **options: Any) -> None:
    call = channel.stream_stream(path)(**options)
    await call.write(bytes(size))
    await call.read()


@pytest.mark.parametrize("method", ["SessionService/CreateSession", "ChatService/Chat"])
@pytest.mark.parametrize(
    ("size", "options"),
    [(TOO_LARGE, {}), (BOMB, {"compression": grpc.Compression.Gzip})],
    ids=["too large", "inflates"],
)
async def test_a_message_that_is_too_large_or_inflates_is_refused_before_it_does(
    limited: ServerProcess, method: str, size: int, options: dict[str, Any]
) -> None:
    async with connected(limited) as service, asyncio.timeout(60):
        await service.new_session()
        before = resident_bytes(limited)
        channel: Any = service.channel
        path = f"/agent_runtime.v1.{method}"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await (_streamed if method.endswith("Chat") else _sent)(channel, path, size, **options)
        assert caught.value.code() in (REFUSED, grpc.StatusCode.CANCELLED)
        assert resident_bytes(limited) - before < MOST_GROWTH
    assert await is_well(limited)


async def test_headers_that_are_too_large_are_refused(limited: ServerProcess) -> None:
    async with connected(limited) as service:
        channel: Any = service.channel
        for metadata in ((("x-large", "x" * 40_000),), tuple((f"x-{number}", "x" * 100) for number in range(400))):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary("/agent_runtime.v1.SystemService/GetServerStatus")(
                    b"", metadata=metadata, timeout=30
                )
            assert caught.value.code() is REFUSED
    assert await is_well(limited)


async def test_silent_connections_are_bounded_and_dropped(limited: ServerProcess) -> None:
    host, _, port = limited.target.rpartition(":")
    before = resident_bytes(limited)
    sockets = [await asyncio.open_connection(host, int(port)) for _ in range(5 * CONNECTIONS)]
    async with asyncio.timeout(90):
        for reader, writer in sockets:  # each ends: those too many at once, the others after their handshake's time
            with suppress(ConnectionError):
                while await reader.read(4096):
                    pass
            writer.close()
    assert resident_bytes(limited) - before < MOST_GROWTH
    assert await is_well(limited)
