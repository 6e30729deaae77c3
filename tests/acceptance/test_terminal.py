"""The terminal programs as people start them: processes with exit statuses."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent_runtime_server.embedded import scratch_state_dir
from agent_runtime_server.mockllm.server import MockServer
from servicekit.process import ServerProcess

LONGEST = 60


@dataclass
class Ended:
    """What a program printed and how it ended."""

    status: int
    out: str
    err: str


async def start(*arguments: str, cwd: Path, **settings: str) -> asyncio.subprocess.Process:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("AGENT_RUNTIME_")}
    ours = {f"AGENT_RUNTIME_{name.upper()}": value for name, value in settings.items()}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "agent_runtime_cli", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=cwd,
        env={**inherited, "XDG_STATE_HOME": str(cwd.parent / "state"), **ours},
    )


async def ended(process: asyncio.subprocess.Process) -> Ended:
    try:
        async with asyncio.timeout(LONGEST):
            out, err = await process.communicate()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    return Ended(process.returncode or 0, out.decode(), err.decode())


async def run(*arguments: str, cwd: Path, **settings: str) -> Ended:
    return await ended(await start(*arguments, cwd=cwd, **settings))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    (workspace / "greeting.txt").write_text("hello from the file\n")
    return workspace


async def test_one_message_prints_its_answer(server: ServerProcess, model: MockServer, folder: Path) -> None:
    done = await run("chat", "read greeting.txt", cwd=folder, target=server.target)
    assert (done.status, "hello from the file" in done.out) == (0, True)
    assert "\x1b" not in done.out + done.err


async def test_what_is_approved_happens(server: ServerProcess, model: MockServer, folder: Path) -> None:
    done = await run("chat", "--yes", "create file a.txt with some words", cwd=folder, target=server.target)
    assert done.status == 0
    assert "some words" in (folder / "a.txt").read_text()
    assert "+some words" in done.err


async def test_what_is_rejected_does_not_happen(server: ServerProcess, model: MockServer, folder: Path) -> None:
    await run("chat", "--approve", "none", "create file a.txt with words", cwd=folder, target=server.target)
    assert not (folder / "a.txt").exists()


async def test_a_request_is_decided_from_another_terminal(
    server: ServerProcess, model: MockServer, folder: Path
) -> None:
    chat = await start("chat", "create file a.txt with words", cwd=folder, target=server.target)
    assert chat.stderr is not None
    async with asyncio.timeout(LONGEST):
        while b"waiting for a decision" not in await chat.stderr.readline():
            pass
    pending = await run("review", "--list", cwd=folder, target=server.target)
    line = next(line for line in pending.out.splitlines() if "write_file a.txt" in line)
    decided = await run("review", line.split("\t")[0], "--approve", cwd=folder, target=server.target)
    assert "approved" in decided.out
    assert (await ended(chat)).status == 0
    assert (folder / "a.txt").exists()


async def test_ctrl_c_cancels_the_turn(server: ServerProcess, model: MockServer, folder: Path) -> None:
    chat = await start("chat", "create file a.txt with words", cwd=folder, target=server.target)
    assert chat.stderr is not None
    async with asyncio.timeout(LONGEST):
        while b"waiting for a decision" not in await chat.stderr.readline():
            pass
    chat.send_signal(signal.SIGINT)
    done = await ended(chat)
    assert (done.status, "cancelled" in done.err) == (130, True)


async def test_sessions_and_their_events_are_listed(server: ServerProcess, model: MockServer, folder: Path) -> None:
    await run("chat", "read greeting.txt", cwd=folder, target=server.target)
    listed = await run("sessions", cwd=folder, target=server.target)
    session = listed.out.split("\t")[0]
    told = await run("events", session, cwd=folder, target=server.target)
    assert told.status == 0
    assert "user_message           read greeting.txt" in told.out


async def test_what_was_spent_is_told(server: ServerProcess, model: MockServer, folder: Path) -> None:
    await run("chat", "read greeting.txt", cwd=folder, target=server.target)
    session = (await run("sessions", cwd=folder, target=server.target)).out.split("\t")[0]
    told = await run("usage", "--session", session, cwd=folder, target=server.target)
    assert told.status == 0
    _, who, calls, _, _, output, _, tool_calls, seconds = told.out.split("\t")
    assert (who, int(calls) > 1, int(output) > 0) == ("local", True, True)
    assert (tool_calls, float(seconds) >= 0) == ("1", True)
    counted = 0
    async with asyncio.timeout(LONGEST):
        while counted < int(calls):  # the server counts once a second
            today = (await run("usage", "--json", cwd=folder, target=server.target)).out
            day = json.loads(today or '{"usage": {}}')
            counted = day["usage"].get("model_calls", 0)
    assert (day["subject"], day["usage"]["tool_calls"] > 0) == ("local", True)
    refused = await run("usage", "--from", "yesterday", cwd=folder, target=server.target)
    assert (refused.status, "first_day" in refused.err, refused.err.count("\n")) == (1, True, 1)


async def test_health_of_a_server_that_serves(server: ServerProcess, model: MockServer, folder: Path) -> None:
    done = await run("health", cwd=folder, target=server.target)
    assert (done.status, done.out) == (0, "SERVING\n")
    assert (await run("health", "nobody", cwd=folder, target=server.target)).status == 3


async def test_the_demo_mends_its_project(folder: Path) -> None:
    with scratch_state_dir() as state:
        done = await run("demo", "--workspace", str(folder.parent / "project"), cwd=folder, state_dir=str(state))
    assert done.status == 0, done.out + done.err
    assert "FAILED" in done.out
    assert "The bug is mended and the tests pass." in done.out
