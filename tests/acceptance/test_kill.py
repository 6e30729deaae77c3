"""Whatever is killed, and whenever: the turn is finished once, and nothing is done twice."""

import asyncio
import os
import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from agent_runtime import v1
from agent_runtime_client import Journal
from agent_runtime_server.mockllm.server import MockServer, mock_server
from servicekit.demo import Moment, Player, check, playing
from servicekit.model import calls, messages, says
from servicekit.process import ServerProcess, serving
from servicekit.service import Service
from servicekit.waiting import until

SEED: Final = int(os.environ.get("AGENT_RUNTIME_TEST_SEED", "20"))
TESTS: Final = Path(__file__).resolve().parent.parent
_FIRST_SEQ: Final = 4  # the user's message
_LAST_SEQ: Final = 49  # the last words of the demo turn when nothing interrupts it


def moments() -> list[Moment]:
    """Return ten moments of the demo turn, by chance; the seed says by which."""
    chance = random.Random(SEED)
    return [Moment(seq, chance.randint(0, 3)) for seq in sorted(chance.sample(range(_FIRST_SEQ, _LAST_SEQ + 1), 10))]


@pytest.fixture(scope="module")
async def slow_model() -> AsyncIterator[MockServer]:
    """A model that takes its time, so that there is a middle to be killed in."""
    async with mock_server(delay_ms=8) as model:
        yield model


@pytest.fixture(scope="module")
async def one_mortal(slow_model: MockServer) -> AsyncIterator[ServerProcess]:
    async with serving({"AGENT_RUNTIME_LLM_BASE_URL": slow_model.base_url}) as server:
        yield server


@pytest.fixture
async def mortal(one_mortal: ServerProcess) -> ServerProcess:
    """A server to be killed, running whatever the test before has left."""
    if not one_mortal.runs:
        await one_mortal.start()
    return one_mortal


@asynccontextmanager
async def demo_turn(server: ServerProcess, folder: Path) -> AsyncIterator[Player]:
    """Begin the demo turn."""
    with Journal.open(folder / "journal") as journal:
        async with playing(server.target, folder / "project", journal) as player:
            yield player


@pytest.mark.parametrize("moment", moments(), ids=lambda moment: f"seed {SEED}: {moment}")
async def test_a_killed_server_goes_on_where_it_was(
    moment: Moment, mortal: ServerProcess, slow_model: MockServer, tmp_path: Path
) -> None:
    slow_model.journal.clear()
    async with demo_turn(mortal, tmp_path) as player:
        assert await player.watcher.follow(moment), "the turn was over before the moment came"
        await mortal.kill()
        await mortal.start()
        await player.watcher.follow()
        await check(player)
    assert not [entry for entry in slow_model.journal if entry.outcome == "refused"]


@pytest.mark.parametrize("moment", [Moment(18, 2), Moment(23)], ids=str)
async def test_a_server_asked_to_end_leaves_the_turn_to_its_successor(
    moment: Moment, mortal: ServerProcess, tmp_path: Path
) -> None:
    async with demo_turn(mortal, tmp_path) as player:
        assert await player.watcher.follow(moment)
        assert await mortal.stop() == 0
        await mortal.start()
        await player.watcher.follow()
        await check(player)


async def test_a_killed_client_admits_that_it_lost_track(service: Service, model: MockServer, tmp_path: Path) -> None:
    command = {"command": "echo ran >> effects; cat gate", "shell": True}
    model.use([calls(("execute_command", command)), says("I better look.")])
    workspace = tmp_path / "project"
    workspace.mkdir()
    os.mkfifo(workspace / "gate")
    gate = os.open(workspace / "gate", os.O_RDWR)  # as long as it is open, the command waits for input
    try:
        session_id = await service.new_session()
        client = await start_client(service.target, session_id, workspace, "do it")
        await until((workspace / "effects").exists, "the command's effect")
        client.kill()
        await client.wait()
    finally:
        os.close(gate)
    client = await start_client(service.target, session_id, workspace)
    assert await client.wait() == 0
    events = await service.log(session_id)
    (result,) = [event.tool_call_completed.result for event in events if event.HasField("tool_call_completed")]
    assert result.status == v1.ToolResult.STATUS_OUTCOME_UNKNOWN
    assert events[-1].turn_finished.state == v1.TURN_STATE_COMPLETED
    assert "not known" in messages(model)[-1]["content"]
    assert (workspace / "effects").read_text() == "ran\n"
    started = {event.tool_call_started.client_id for event in events if event.HasField("tool_call_started")}
    epochs = [event.executor_changed.client_id for event in events if event.HasField("executor_changed")]
    assert epochs == [*started]


async def start_client(target: str, session_id: str, workspace: Path, message: str = "") -> asyncio.subprocess.Process:
    """Start a client as a process of its own."""
    command = [sys.executable, "-m", "servicekit.client_program", target, session_id, str(workspace)]
    process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.PIPE, cwd=TESTS)
    assert process.stdin is not None
    process.stdin.write(f"{message}\n".encode() if message else b"")
    process.stdin.close()
    return process
