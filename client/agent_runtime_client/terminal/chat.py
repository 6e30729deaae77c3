"""`agent-runtime chat`: talk to the agents about a folder."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from agent_runtime import v1
from agent_runtime_client import Chat, Client, Journal, LocalTools
from agent_runtime_client.terminal import render
from agent_runtime_client.terminal.approvers import ApproveAll, Approver, AskHere, LeaveToReview, RejectAll
from agent_runtime_client.terminal.connect import (
    ANYBODY,
    DEFAULT_TARGET,
    Access,
    Target,
    checked_workspace,
    with_client,
)
from agent_runtime_client.terminal.failures import CommandFailed, Exit
from agent_runtime_client.terminal.oneshot import OneShot
from agent_runtime_client.terminal.printer import Printer, stdout_console
from agent_runtime_client.terminal.screen import Screen

Approve = Literal["ask", "all", "none"]


@dataclass(frozen=True)
class ChatOptions:
    """What to talk about, where, and who decides."""

    message: str = ""
    workspace: Path = Path()
    session: str = ""
    agent: str = ""
    approve: Approve | None = None
    as_json: bool = False
    command: str = "agent-runtime chat"  # what comes back to the session


def chat(
    *message: Annotated[str, Parameter(help="Say this, print the answer and end; without it, chat.")],
    target: Target = DEFAULT_TARGET,
    access: Access = ANYBODY,
    workspace: Annotated[Path, Parameter(help="Folder the agents work in.")] = Path(),
    session: Annotated[str, Parameter(help="Session to go on with; its history is shown first.")] = "",
    agent: Annotated[str, Parameter(help="Agent to talk to; without it the message is routed.")] = "",
    approve: Annotated[
        Approve | None, Parameter(help="With MESSAGE: who decides risky calls; `all` runs them all.")
    ] = None,
    yes: Annotated[bool, Parameter(name=["--yes", "-y"], negative="", help="Short for --approve all.")] = False,
    json: Annotated[bool, Parameter(negative="", help="With MESSAGE: print the events as JSON lines.")] = False,
) -> int:
    """Talk to a team of coding agents about the files of a folder.

    Files are read and written, and commands run, on this machine and in this folder; what changes anything
    asks first. With MESSAGE the exit status tells how the turn ended: 0 completed, 1 failed, 3 waiting for
    an answer of yours, 130 cancelled.
    """
    said = " ".join(message).strip()
    if not said and not sys.stdin.isatty():
        said = sys.stdin.read().strip()
        if not said:
            raise CommandFailed("nothing to say: give a MESSAGE, or use a terminal", Exit.USAGE)
    if (json or approve or yes) and not said:
        raise CommandFailed("--json, --approve and --yes need a MESSAGE", Exit.USAGE)
    if yes and approve not in (None, "all"):
        raise CommandFailed(f"--yes and --approve {approve} contradict each other", Exit.USAGE)
    options = ChatOptions(said, checked_workspace(workspace), session, agent, "all" if yes else approve, json)
    return with_client(target, lambda client: talk(client, options), access)


async def talk(client: Client, options: ChatOptions) -> int:
    """Chat as told; the exit status."""
    session = await open_session(client, options)
    async with attach(client, session, options.workspace) as chat:
        if options.message:
            return await _say_once(client, chat, session, options)
        if not sys.stdout.isatty():
            raise CommandFailed("a chat needs a terminal; give a MESSAGE to print one answer", Exit.USAGE)
        await _converse(client, chat, session, options)
        return Exit.OK


async def open_session(client: Client, options: ChatOptions) -> v1.Session:
    """The session asked for, or a new one."""
    if options.session:
        return await client.get_session(options.session)
    return await client.create_session(agent_id=options.agent, title=options.workspace.name)


@asynccontextmanager
async def attach(client: Client, session: v1.Session, workspace: Path) -> AsyncIterator[Chat]:
    """A chat that runs tools in the workspace."""
    journal = Journal.for_workspace(workspace, session_id=session.session_id)
    try:
        tools = LocalTools(workspace)
        begin = max(session.oldest_seq - 1, 0)
        async with client.chat(session.session_id, executor=tools, journal=journal, after_seq=begin) as chat:
            yield chat
    finally:
        journal.close()


async def _say_once(client: Client, chat: Chat, session: v1.Session, options: ChatOptions) -> int:
    printer = Printer.for_pipes()
    if options.as_json:
        printer = Printer.silent()
    shot = OneShot(chat, printer, as_json=options.as_json)
    approver = _approver(shot, printer, client.target, options)
    status = await shot.run(options.message, approver, agent_id=options.agent if options.session else "")
    if status is Exit.WAITING_FOR_USER:
        printer.line(render.quiet(f"answer with: {options.command} --session {session.session_id} ANSWER"))
    return status


def _approver(shot: OneShot, printer: Printer, target: str, options: ChatOptions) -> Approver:
    asked = options.approve or ("ask" if sys.stdin.isatty() and sys.stderr.isatty() else None)
    match asked:
        case "all":
            return ApproveAll(printer.line, options.workspace, "--approve all")
        case "none":
            return RejectAll()
        case "ask" if sys.stdin.isatty():
            return AskHere(printer.line, options.workspace, shot.interrupt)
        case "ask":
            raise CommandFailed("--approve ask needs a terminal", Exit.USAGE)
        case _:
            return LeaveToReview(printer.line, target)


async def _converse(client: Client, chat: Chat, session: v1.Session, options: ChatOptions) -> None:
    console = stdout_console()
    console.print(render.welcome(session, options.workspace, client.target), soft_wrap=True)
    if (gone := render.beginning(session)) is not None:
        console.print(gone, soft_wrap=True)
    screen = Screen(client, chat, options.workspace)
    await screen.run(switch_to=options.agent if options.session else "")
    console.print(render.farewell(session, options.command), soft_wrap=True)
