"""Several workers behind one port are one server: to its clients, to who reads its metrics, and to who stops it."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from http.client import HTTPConnection
from pathlib import Path

import grpc
import pytest

from agent_runtime import v1
from agent_runtime_client import Journal
from agent_runtime_server.embedded.processes import command_line
from agent_runtime_server.mockllm.server import MockServer, mock_server
from agent_runtime_server.telemetry.merged import parsed
from servicekit.demo import Moment, playing
from servicekit.process import ServerProcess, serving
from servicekit.service import Service
from servicekit.waiting import until


@pytest.fixture(scope="module")
async def slow_model() -> AsyncIterator[MockServer]:
    """A model that takes its time, so that there is a middle to be killed in."""
    async with mock_server(delay_ms=8) as model:
        yield model


@pytest.fixture(scope="module")
def metrics_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@pytest.fixture(scope="module")
async def one_server(slow_model: MockServer, metrics_port: int) -> AsyncIterator[ServerProcess]:
    settings = {"AGENT_RUNTIME_LLM_BASE_URL": slow_model.base_url}
    async with serving(settings, "--workers", "2", "--metrics-port", str(metrics_port)) as server:
        yield server


@pytest.fixture
async def server(one_server: ServerProcess) -> ServerProcess:
    """Two workers, started again if the test before has ended them."""
    if not one_server.runs:
        await one_server.start()
    return one_server


def descendants(pid: int) -> set[int]:
    """Return every process that has come of this one."""
    children = {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}
    return children.union(*(descendants(child) for child in children))


def workers(server: ServerProcess) -> set[int]:
    """Return the workers' process ids."""
    return {pid for pid in descendants(server.pid) if " --worker " in command_line(pid)}


async def metric(port: int, name: str) -> float:
    """Return the sum of a metric's samples of this name."""

    def read() -> str:
        connection = HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        return text

    page = parsed(await asyncio.to_thread(read))
    values = [value for family in page.values() for (sample, _), value in family.values.items() if sample == name]
    assert values, f"there is no {name}"
    return sum(values)


async def attached(stack: AsyncExitStack, target: str) -> str:
    """Open a chat over a connection of its own, and return the replica that serves it."""
    service = Service(target, options=(("grpc.use_local_subchannel_pool", 1),))
    await stack.enter_async_context(service.channel)
    chat = await stack.enter_async_context(service.chat(await service.new_session()))
    return str((await chat.frame("welcome")).replica_id)


async def test_all_workers_serve_and_are_counted_together(server: ServerProcess, metrics_port: int) -> None:
    served: list[str] = []
    async with AsyncExitStack() as stack:
        while len({*served}) < 2:
            assert len(served) < 40, "the kernel spreads connections over both"
            served.append(await attached(stack, server.target))
        assert await metric(metrics_port, "agent_runtime_open_streams") == len(served)
    assert {int(replica_id.rpartition(":")[2]) for replica_id in served} == workers(server)
    assert await metric(metrics_port, "agent_runtime_workers") == 2


async def test_a_killed_worker_is_replaced_and_its_turn_finished(
    server: ServerProcess, metrics_port: int, tmp_path: Path
) -> None:
    with Journal.open(tmp_path / "journal") as journal:
        async with playing(server.target, tmp_path / "project", journal) as player:
            assert await player.watcher.follow(Moment(18, 2))
            commits = await metric(metrics_port, "agent_runtime_commit_seconds_count")
            victim = int(player.watcher.replica_id.rpartition(":")[2])
            os.kill(victim, signal.SIGKILL)
            assert not await player.watcher.follow()
            events = player.watcher.events
            assert events[-1].turn_finished.state == v1.TURN_STATE_COMPLETED
            assert [event.seq for event in events] == [*range(1, len(events) + 1)]
            assert set(player.tools.runs.values()) == {1}
    await until(lambda: len(workers(server) - {victim}) == 2, "another worker")
    assert await metric(metrics_port, "agent_runtime_commit_seconds_count") > commits, "no total ever falls"
    assert await metric(metrics_port, "agent_runtime_worker_restarts_total") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_the_parents_end_is_the_end_of_all(server: ServerProcess, number: signal.Signals) -> None:
    service = Service(server.target)
    async with service.channel, service.chat(await service.new_session()) as chat:
        await chat.caught_up()
        started = {pid: command_line(pid) for pid in descendants(server.pid)}
        assert len(started) > 4, "two workers, the supervisor and its databases"
        server.signal(number)
        error = await chat.end()
    assert error is not None
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert await server.stop() == (0 if number is signal.SIGTERM else -signal.SIGKILL)
    await until(lambda: not any(command_line(pid) == line for pid, line in started.items()), "the end of all")
