"""The interactive chat: output that goes on above a line to type in."""

import asyncio
import time
from collections.abc import Coroutine
from pathlib import Path

from prompt_toolkit.patch_stdout import patch_stdout
from rich.console import Console
from rich.text import Text

from agent_runtime import v1
from agent_runtime_client import Chat, Client, ClientError, Rejected
from agent_runtime_client.terminal import approvals, edit, render
from agent_runtime_client.terminal.answers import reply_to
from agent_runtime_client.terminal.approvals import Choice
from agent_runtime_client.terminal.deciding import Desk
from agent_runtime_client.terminal.failures import explain
from agent_runtime_client.terminal.feed import Chunk, Feed, Piece
from agent_runtime_client.terminal.flow import Flow
from agent_runtime_client.terminal.prompt import Interrupts, Prompt
from agent_runtime_client.terminal.sessions import session_line
from agent_runtime_client.terminal.slash import HELP, BadSlash, Slash, parse_slash
from agent_runtime_client.terminal.text import clean, shorten


class Screen:
    """One chat on one terminal."""

    def __init__(self, client: Client, chat: Chat, workspace: Path) -> None:
        self._client = client
        self._chat = chat
        self._feed = Feed(chat.client_id)
        self._flow = Flow()
        self._console = Console(highlight=False)
        self._interrupts = Interrupts()
        self._prompt = Prompt(self._message, self._status, self._interrupt)
        self._desk = Desk(workspace)
        self._leaving = False
        self._tasks = asyncio.TaskGroup()

    async def run(self, *, switch_to: str = "") -> None:
        """Talk until the user leaves, or the chat cannot go on."""
        with patch_stdout(raw=True):
            async with self._tasks:
                reading = self._tasks.create_task(self._read_updates())
                if switch_to:
                    self._start(self._chat.switch_agent(switch_to))
                await self._read_lines()
                reading.cancel()
                self._leaving = True

    async def _read_updates(self) -> None:
        try:
            async for update in self._chat:
                self.show(self._feed.apply(update))
                self._offer_approval()
                self._prompt.redraw()
        finally:
            # Whatever ends the chat ends the reading of lines too.
            self._prompt.leave()

    async def _read_lines(self) -> None:
        while not self._leaving:
            try:
                line = (await self._prompt.read()).strip()
            except EOFError:
                return
            if line:
                await self._take(line)

    # What is typed

    async def _take(self, line: str) -> None:
        try:
            slash = parse_slash(line)
        except BadSlash as error:
            self._say(str(error))
            return
        approval = self._desk.current
        if slash is not None:
            await self._obey(slash)
        elif approval is not None:
            await self._decide(approval, line)
        elif self._desk.deciding and approvals.parse_answer(line).choice is not Choice.UNCLEAR:
            self._say("the decision is on its way")
        elif (question := self._feed.view.question) is not None:
            reply = reply_to(question, line)
            self._start(self._chat.send(reply.text, question_id=question.question_id, option_ids=reply.option_ids))
        else:
            self._start(self._chat.send(line.removeprefix("/") if line.startswith("//") else line))

    async def _obey(self, slash: Slash) -> None:
        match slash.name:
            case "quit":
                self._leaving = True
            case "help":
                self._say(HELP)
            case "cancel":
                self._cancel()
            case "agent":
                self._start(self._chat.switch_agent(slash.argument))
            case "steer":
                self._start(self._chat.send(slash.argument, delivery=v1.MESSAGE_DELIVERY_STEER))
            case "now":
                self._start(self._chat.send(slash.argument, delivery=v1.MESSAGE_DELIVERY_INTERRUPT))
            case "agents":
                self._start(self._list_agents())
            case "sessions":
                self._start(self._list_sessions())

    async def _list_agents(self) -> None:
        for agent in await self._client.list_agents():
            self._say(f"{shorten(agent.agent_id, 64):14} {shorten(agent.description, 100)}")

    async def _list_sessions(self) -> None:
        async for session in self._client.list_sessions():
            self._say(session_line(session))

    # Approvals

    def _offer_approval(self) -> None:
        if not self._feed.live:
            return
        before = self._desk.current
        approval = self._desk.choose(self._feed.view.approvals)
        if approval is None:
            if before is not None:
                self._prompt.bring_back()
        elif before is None or approval.approval_id != before.approval_id:
            self._prompt.set_aside()
            self.print(approvals.approval_view(approval, self._desk.workspace))

    async def _decide(self, approval: v1.Approval, line: str) -> None:
        answer = approvals.parse_answer(line)
        match answer.choice:
            case Choice.UNCLEAR:
                self._say(f"a decision is waited for: {approvals.CHOICES}")
            case Choice.VIEW:
                self.print(approvals.approval_view(approval, self._desk.workspace, rows=None))
            case Choice.APPROVE:
                self._settle(approval, v1.APPROVAL_VERDICT_APPROVE)
            case Choice.REJECT:
                self._settle(approval, v1.APPROVAL_VERDICT_REJECT, comment=answer.comment)
            case Choice.EDIT:
                await self._edit(approval)

    async def _edit(self, approval: v1.Approval) -> None:
        try:
            arguments = await edit.edit_call(approval.tool_call, self._prompt)
        except edit.EditFailed as error:
            self._say(f"nothing was decided: {error}")
            return
        if arguments is None:
            self._say("nothing was changed and nothing decided")
            return
        self.print(approvals.edited_view(approval, arguments, self._desk.workspace))
        self._settle(approval, v1.APPROVAL_VERDICT_APPROVE_WITH_EDITS, edited=arguments)

    def _settle(
        self,
        approval: v1.Approval,
        verdict: "v1.ApprovalVerdict.ValueType",
        *,
        edited: str = "",
        comment: str = "",
    ) -> None:
        self._desk.answered(approval)
        self._start(self._send_decision(approval, verdict, edited, comment))

    async def _send_decision(
        self, approval: v1.Approval, verdict: "v1.ApprovalVerdict.ValueType", edited: str, comment: str
    ) -> None:
        try:
            await self._chat.decide(approval, verdict, edited_arguments_json=edited, comment=comment)
        except Rejected:
            self._desk.reopen()
            self._offer_approval()
            raise

    # Ctrl-C

    def _interrupt(self) -> None:
        if self._interrupts.leaves(time.monotonic(), busy=self._feed.view.busy):
            self._prompt.leave()
        else:
            self._cancel()

    def _cancel(self) -> None:
        if self._feed.view.turns:
            self._start(self._chat.cancel(reason="stopped by the user"))
        else:
            self._say("no turn is running")

    def _start(self, work: Coroutine[object, object, object]) -> None:
        self._tasks.create_task(self._report(work))

    async def _report(self, work: Coroutine[object, object, object]) -> None:
        """Await something the user asked for; a refusal is told, and the chat goes on."""
        try:
            await work
        except ClientError as error:
            if not self._leaving:
                self.print(Text(f"✗ {clean(str(explain(error, self._client.target)))}", "red"))

    # Printing

    def show(self, pieces: list[Piece]) -> None:
        """Print what the feed made of an update."""
        for piece in pieces:
            if isinstance(piece, Chunk):
                self._print_rows(self._flow.push(piece, self._console.width))
            else:
                self.print(piece.text)

    def print(self, text: Text) -> None:
        """Print whole lines above the prompt."""
        self._print_rows([*self._flow.flush(), text])

    def _say(self, text: str) -> None:
        self.print(render.quiet(text))

    def _print_rows(self, rows: list[Text]) -> None:
        for row in rows:
            self._console.print(row, soft_wrap=True)

    def _message(self) -> Text:
        text = Text()
        if self._flow.tail is not None:
            text.append_text(self._flow.tail)
            text.append("\n")
        if self._desk.current is not None:
            text.append(f"{approvals.CHOICES} ", "yellow")
        elif self._feed.view.question is not None:
            text.append("answer ", "cyan")
        return text.append("» ", "bold cyan")

    def _status(self) -> str:
        status = self._feed.view.status()
        if self._feed.view.busy:
            waiting = self._desk.waiting
            more = f" · {waiting} more to decide" if waiting else ""
            return f" {status}{more} · Ctrl-C cancels"
        return f" {status or (self._feed.view.agent_id or 'ready')} · /help · Ctrl-C leaves"
