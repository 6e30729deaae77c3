"""`agent-runtime review`: the inbox of whoever decides."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from prompt_toolkit.patch_stdout import patch_stdout
from rich.table import Table
from rich.text import Text

from agent_runtime import v1
from agent_runtime_client import Client, Rejected, Review, updates
from agent_runtime_client.terminal import calls, names, render
from agent_runtime_client.terminal.approvers import AskHere, Decision
from agent_runtime_client.terminal.connect import (
    ANYBODY,
    DEFAULT_TARGET,
    Access,
    Target,
    checked_workspace,
    with_client,
)
from agent_runtime_client.terminal.failures import CommandFailed, Exit
from agent_runtime_client.terminal.printer import stdout_console
from agent_runtime_client.terminal.sessions import local_time
from agent_runtime_client.terminal.text import shorten


def review(
    approval_id: Annotated[str, Parameter(help="Decide this one and end.")] = "",
    *,
    target: Target = DEFAULT_TARGET,
    access: Access = ANYBODY,
    approve: Annotated[bool, Parameter(negative="", help="Approve APPROVAL_ID as asked.")] = False,
    reject: Annotated[bool, Parameter(negative="", help="Reject APPROVAL_ID.")] = False,
    comment: Annotated[str, Parameter(help="Why; the model is told when it is a rejection.")] = "",
    list_: Annotated[bool, Parameter(name="--list", negative="", help="Print what is pending and end.")] = False,
    workspace: Annotated[
        Path | None, Parameter(help="Copy of the files, so that writes are shown as diffs against it.")
    ] = None,
) -> int:
    """Decide what agents ask for: see each diff or command, then approve, edit or reject it.

    On a terminal it waits for requests and asks one after another; piped, or with --list, it prints the
    pending ones. The first decision wins: what somebody else decides meanwhile is taken off the list.
    """
    if approve and reject:
        raise CommandFailed("--approve and --reject contradict each other", Exit.USAGE)
    if approval_id and not (approve or reject):
        raise CommandFailed("say --approve or --reject with an APPROVAL_ID", Exit.USAGE)
    if not approval_id and (approve or reject or comment):
        raise CommandFailed("--approve, --reject and --comment need an APPROVAL_ID", Exit.USAGE)
    folder = checked_workspace(workspace) if workspace else None
    verdict = v1.APPROVAL_VERDICT_APPROVE if approve else v1.APPROVAL_VERDICT_REJECT

    async def work(client: Client) -> int:
        if approval_id:
            return await _decide_one(client, approval_id, verdict, comment)
        if list_ or not (sys.stdin.isatty() and sys.stdout.isatty()):
            return await _print_pending(client)
        async with client.review() as inbox:
            return await Inbox(inbox, folder).run()

    return with_client(target, work, access)


async def _decide_one(client: Client, approval_id: str, verdict: "v1.ApprovalVerdict.ValueType", comment: str) -> int:
    approval = await client.get_approval(approval_id)
    decided = await client.decide(approval, verdict, comment=comment)
    stdout_console().print(render.resolved(decided), soft_wrap=True)
    return Exit.OK


async def _print_pending(client: Client) -> int:
    console = stdout_console()
    pending = await client.list_approvals()
    if not console.is_terminal:
        for approval in pending:
            print("\t".join(_cells(approval)))
    elif pending:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in ("APPROVAL", "SESSION", "RISK", "EXPIRES", "CALL"):
            table.add_column(name, no_wrap=name != "CALL")
        for approval in pending:
            table.add_row(*(Text(cell) for cell in _cells(approval)))
        console.print(table)
    else:
        console.print("nothing waits for a decision")
    return Exit.OK


def _cells(approval: v1.Approval) -> tuple[str, ...]:
    return (
        shorten(approval.approval_id, 64),
        shorten(approval.session_id, 64),
        names.risk(approval.tool_call.risk),
        local_time(approval.expire_time) if approval.HasField("expire_time") else "never",
        calls.call_line(approval.tool_call),
    )


class Inbox:
    """Asks about one pending approval after another, until the reviewer leaves."""

    def __init__(self, review: Review, workspace: Path | None) -> None:
        self._review = review
        self._console = stdout_console()
        self._pending: dict[str, v1.Approval] = {}
        self._changed = asyncio.Event()
        self._left = False
        self._connected = True
        self._asking: asyncio.Task[Decision | None] | None = None
        self._asked = ""
        self._asker = AskHere(self._say, workspace, self._leave)

    async def run(self) -> int:
        """Review until Ctrl-C or Ctrl-D."""
        self._say(render.quiet("waiting for requests; Ctrl-C leaves"))
        with patch_stdout(raw=True):
            async with asyncio.TaskGroup() as tasks:
                reading = tasks.create_task(self._read())
                while not self._left:
                    await self._next(tasks)
                reading.cancel()
        return Exit.OK

    async def _next(self, tasks: asyncio.TaskGroup) -> None:
        approval = next(iter(self._pending.values()), None)
        if approval is None:
            self._changed.clear()
            await self._changed.wait()
            return
        self._say(Text(f"\nsession {shorten(approval.session_id, 64)}", "dim"))
        self._asked = approval.approval_id
        self._asking = tasks.create_task(self._asker.decide(approval))
        try:
            decision = await self._asking
        except asyncio.CancelledError:
            if self._asked in self._pending:
                raise
            return
        if decision is None:
            self._left = True
        else:
            await self._send(self._pending.get(approval.approval_id, approval), approval, decision)

    async def _send(self, latest: v1.Approval, seen: v1.Approval, decision: Decision) -> None:
        self._pending.pop(latest.approval_id, None)
        try:
            await self._review.decide(
                seen,
                decision.verdict,
                edited_arguments_json=decision.edited_arguments_json,
                comment=decision.comment,
            )
        except Rejected as error:
            self._say(Text(f"✗ {render.error_words(error.error)}", "red"))

    def _leave(self) -> None:
        self._left = True
        self._changed.set()

    async def _read(self) -> None:
        async for update in self._review:
            self._take(update)
            self._changed.set()
        raise CommandFailed("the server ended the review")

    def _take(self, update: object) -> None:
        match update:
            case v1.Approval():
                self._take_approval(update)
            case updates.Disconnected(reason):
                if self._connected:
                    self._say(Text(f"○ disconnected ({shorten(reason, 100)}); trying again", "yellow"))
                self._connected = False
            case updates.CaughtUp():
                if not self._connected:
                    self._say(Text("● connected again", "green"))
                self._connected = True
            case updates.Notice(text):
                self._say(Text(f"! {shorten(text, 200)}", "yellow"))
            case _:
                pass

    def _take_approval(self, approval: v1.Approval) -> None:
        if approval.state == v1.APPROVAL_STATE_PENDING:
            self._pending[approval.approval_id] = approval
            return
        known = self._pending.pop(approval.approval_id, None)
        self._say(render.resolved(approval))
        if known is not None and approval.approval_id == self._asked and self._asking is not None:
            self._asking.cancel()

    def _say(self, text: Text) -> None:
        self._console.print(text, soft_wrap=True)
