"""`agent-runtime replay` says why a recorded session did what it did."""

import asyncio
import sys

import pytest

from agent_runtime import v1
from agent_runtime_client import Client, Journal
from agent_runtime_server.commands.replay import tell
from agent_runtime_server.mockllm.server import MockServer
from servicekit.demo import playing
from servicekit.process import ServerProcess


async def replay(target: str, *arguments: str) -> tuple[int | None, str, str]:
    command = (sys.executable, "-m", "agent_runtime_cli", "replay", *arguments, "--target", target)
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


@pytest.fixture(scope="module")
async def demo_session(server: ServerProcess, one_model: MockServer, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A whole turn: routed, with reads, approvals, writes, commands and an end."""
    one_model.use([])  # else the script of the test before still stands
    folder = tmp_path_factory.mktemp("replayed")
    with Journal.open(folder / "journal") as journal:
        async with playing(server.target, folder / "project", journal) as player:
            assert not await player.watcher.follow()
            return player.session_id


async def recorded(server: ServerProcess, session_id: str) -> list[v1.SessionEvent]:
    async with Client(server.target) as client:
        return [event async for event in client.events(session_id)]


async def test_a_whole_turn_comes_out_the_same_and_says_why(
    server: ServerProcess, model: MockServer, demo_session: str
) -> None:
    log = await recorded(server, demo_session)
    status, told, _ = await replay(server.target, demo_session)
    assert told.splitlines()[-1].endswith(": no difference")
    assert status == 0
    assert told.count("─ a human decides") == sum(event.HasField("approval_resolved") for event in log)
    for reason in ("policy: read-only tools run at once", "policy: commands ask", "the model chose", "bounded by"):
        assert reason in told


async def test_a_fork_is_replayed_with_what_it_copied(
    server: ServerProcess, model: MockServer, demo_session: str
) -> None:
    async with Client(server.target) as client:
        asked = next(one.seq for one in await recorded(server, demo_session) if one.HasField("approval_requested"))
        fork = await client.fork_session(demo_session, at_seq=asked)
    status, told, _ = await replay(server.target, fork.session_id)
    assert (status, "─ the session is forked" in told) == (0, True)


async def test_only_the_beginning_is_told_when_asked_for(
    server: ServerProcess, model: MockServer, demo_session: str
) -> None:
    status, told, _ = await replay(server.target, demo_session, "--to", "4")
    assert (status, told.count("─")) == (0, 3)


async def test_a_difference_is_shown_with_both_sides_and_ends_with_1(
    server: ServerProcess, model: MockServer, demo_session: str, capsys: pytest.CaptureFixture[str]
) -> None:
    log = await recorded(server, demo_session)
    order = next(event for event in log if event.HasField("tool_call_dispatched"))
    order.tool_call_dispatched.deadline.seconds += 60
    assert tell(log, len(log)) == 1
    told = capsys.readouterr().out
    assert f"!{order.seq:>5} recorded tool_call_dispatched" in told
    assert f"!{order.seq:>5} replayed tool_call_dispatched" in told
    assert "tool_call_dispatched.deadline  (recorded 20" in told
    assert told.splitlines()[-1].endswith(": 1 difference")


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["nowhere"], 1, "there is no session nowhere"),
        (["{session}", "--to", "100000"], 2, "--to: the log of"),
        (["{session}", "--to", "-1"], 2, "--to"),
        ([], 2, "--session"),
    ],
)
async def test_bad_input_is_one_clear_line(
    server: ServerProcess, model: MockServer, demo_session: str, arguments: list[str], status: int, said: str
) -> None:
    ended, _, told = await replay(server.target, *(argument.format(session=demo_session) for argument in arguments))
    assert (ended, len(told.splitlines())) == (status, 1)
    assert said in told
