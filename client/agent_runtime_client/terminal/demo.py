"""`agent-runtime demo`: a team of agents mends a small project while you watch."""

import asyncio
import os
import shutil
import sys
import tempfile
import time
from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated, Final

from cyclopts import Parameter
from rich.text import Text

from agent_runtime_client import Client
from agent_runtime_client.terminal import render
from agent_runtime_client.terminal.approvers import ApproveAll
from agent_runtime_client.terminal.chat import ChatOptions, attach, open_session
from agent_runtime_client.terminal.child import own_server
from agent_runtime_client.terminal.connect import unwrapped
from agent_runtime_client.terminal.failures import CommandFailed, Exit
from agent_runtime_client.terminal.oneshot import OneShot
from agent_runtime_client.terminal.printer import Printer, stdout_console

MESSAGE: Final = "the tests fail, find out why and fix it"
_TEST_SECONDS: Final = 60
_SHOWN_TEST_LINES: Final = 12


def demo(
    *,
    workspace: Annotated[
        Path | None, Parameter(help="Where to put the copy of the example; must not exist, or be empty.")
    ] = None,
) -> int:
    """Watch the agents find and mend a bug in a copy of a small example project.

    It starts a server of its own, with the mock model unless AGENT_RUNTIME_LLM_BASE_URL names a real one,
    and says yes to each request by itself. Ends with 0 only if the project's tests pass afterwards.
    """
    return unwrapped(lambda: asyncio.run(play(workspace)))


async def play(workspace: Path | None) -> int:
    """Play the demo in `workspace`, or in a temporary folder that is kept."""
    stage = Stage()
    begun = time.monotonic()
    project = _copy_example(workspace)
    _prefer_this_python()
    stage.step(f"A small project with a bug, in {project}")
    if await stage.show_tests(project):
        raise CommandFailed("the example's tests pass before the demo; nothing is left to mend")
    stage.step("Starting a server: Postgres, Redis, a model and the agents")
    async with own_server() as target:
        stage.step(f"Asking: {MESSAGE}", f"server on {target}, up after {time.monotonic() - begun:.1f} s")
        status = await _ask(target, project, stage.printer)
        stage.step("The tests once more, run by the demo itself")
        passed = await stage.show_tests(project)
    return stage.close(status, project, passed=passed)


async def _ask(target: str, project: Path, printer: Printer) -> Exit:
    async with Client(target) as client:
        session = await open_session(client, ChatOptions(workspace=project))
        async with attach(client, session, project) as chat:
            approver = ApproveAll(printer.line, project, "the demo says yes; in a chat you are asked")
            return await OneShot(chat, printer).run(MESSAGE, approver)


class Stage:
    """What the demo says around the turn."""

    def __init__(self) -> None:
        self._console = stdout_console()
        self.printer = Printer.for_one(self._console)

    def step(self, title: str, remark: str = "") -> None:
        """Announce the next step at once, so that nobody waits in silence."""
        self.printer.line(Text.assemble("\n", (f"== {title}", "bold")))
        if remark:
            self.printer.line(render.quiet(f"   {remark}"))
        sys.stdout.flush()

    async def show_tests(self, project: Path) -> bool:
        """Run the project's tests, show the end of their output, and tell whether they pass."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "unittest",
            cwd=project,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(_TEST_SECONDS):
                output, _ = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise CommandFailed(f"the example's tests did not end in {_TEST_SECONDS} s") from None
        lines = output.decode("utf-8", "replace").rstrip().splitlines()
        style = "green" if process.returncode == 0 else "red"
        for line in ["$ python -m unittest", *lines[-_SHOWN_TEST_LINES:]]:
            self.printer.line(Text(f"  │ {line}", style if line.startswith(("OK", "FAILED")) else "dim"))
        return process.returncode == 0

    def close(self, status: Exit, project: Path, *, passed: bool) -> int:
        """Say how it ended and what to do next."""
        if status is Exit.INTERRUPTED:
            return status
        if not passed or status is not Exit.OK:
            self.printer.line(Text("\n✗ The demo did not end well: the tests still fail.", "bold red"))
            return Exit.FAILED
        self.printer.line(Text("\n✓ The bug is mended and the tests pass.", "bold green"))
        self.printer.line(
            render.quiet(
                f"  The project is in {project}\n"
                "  Next: `agent-runtime run` in a folder of yours opens a chat about it; "
                "AGENT_RUNTIME_LLM_BASE_URL names a real model."
            )
        )
        return Exit.OK


def _prefer_this_python() -> None:
    """Make `python` mean this one in the commands of the demo; a machine may have none of that name."""
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


def _copy_example(workspace: Path | None) -> Path:
    if workspace is None:
        project = Path(tempfile.mkdtemp(prefix="agent-runtime-demo-"))
    else:
        project = workspace.resolve()
        if project.exists() and (not project.is_dir() or any(project.iterdir())):
            raise CommandFailed(f"--workspace: {workspace} exists and is not an empty folder", Exit.USAGE)
    with as_file(files("agent_runtime_client") / "example") as example:
        if not example.is_dir():
            raise CommandFailed("the example project is missing; install agent-runtime again")
        shutil.copytree(example, project, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    return project
