"""One message, its answer, and an exit status."""

import asyncio
import json
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from google.protobuf import json_format

from agent_runtime import v1
from agent_runtime_client import Chat, Event, Rejected, updates
from agent_runtime_client.terminal import render
from agent_runtime_client.terminal.approvers import Approver
from agent_runtime_client.terminal.failures import CommandFailed, Exit
from agent_runtime_client.terminal.feed import Feed
from agent_runtime_client.terminal.printer import Printer

_STATUSES = {v1.TURN_STATE_COMPLETED: Exit.OK, v1.TURN_STATE_CANCELLED: Exit.INTERRUPTED}
_SETTLED = {"APPROVAL_ALREADY_RESOLVED", "APPROVAL_NOT_FOUND", "PERMISSION_DENIED", "SELF_APPROVAL_FORBIDDEN"}


class OneShot:
    """Says one thing in a chat and follows its turn to the end."""

    def __init__(self, chat: Chat, printer: Printer, *, as_json: bool = False) -> None:
        self._chat = chat
        self._printer = printer
        self._as_json = as_json
        self._feed = Feed(chat.client_id)
        self._changed = asyncio.Event()
        self._turn_of: dict[int, str] = {}
        self._ack: v1.FrameAck | None = None
        self._interrupted = False
        self._forced = False
        self._approvals: asyncio.Queue[v1.Approval] = asyncio.Queue()
        self._queued: set[str] = set()

    @property
    def feed(self) -> Feed:
        """What was seen so far."""
        return self._feed

    async def run(self, message: str, approver: Approver, *, agent_id: str = "") -> Exit:
        """Say it and return how its turn ended."""
        async with asyncio.TaskGroup() as tasks:
            works = (self._read(), self._decide_all(approver), self._cancel_when_interrupted())
            helpers = [tasks.create_task(work) for work in works]
            with self._interrupts():
                await self._until(lambda: self._feed.live)
                sending = tasks.create_task(self._send(message, agent_id))
                await self._until(lambda: self._status() is not None)
            for task in (*helpers, sending):
                task.cancel()
        self._printer.finish()
        status = self._status()
        return Exit.FAILED if status is None else status

    def interrupt(self) -> None:
        """Stop the turn; the second time do not even wait for that."""
        self._forced = self._interrupted
        self._interrupted = True
        self._notify()

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition() and not self._forced:
            await self._changed.wait()

    def _notify(self) -> None:
        # A new event for each change, so that any number of waiters can look again.
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _send(self, message: str, agent_id: str) -> None:
        self._ack = await self._chat.send(message, agent_id=agent_id)
        self._notify()

    async def _read(self) -> None:
        async for update in self._chat:
            self._take(update)
            self._notify()
        raise CommandFailed("the server ended the chat")

    def _take(self, update: updates.ChatUpdate) -> None:
        live = self._feed.live
        pieces = self._feed.apply(update)
        if isinstance(update, Event) and update.event.WhichOneof("payload") == "user_message":
            self._turn_of[update.event.seq] = update.event.turn_id
        elif live or not isinstance(update, Event):
            for piece in pieces:
                self._printer.show(piece)
        if self._as_json and live and isinstance(update, Event):
            print(event_json(update.event), flush=True)
        if self._feed.live:
            self._queue_approvals()

    def _queue_approvals(self) -> None:
        for approval in self._feed.view.approvals.values():
            if approval.approval_id not in self._queued:
                self._queued.add(approval.approval_id)
                self._approvals.put_nowait(approval)

    async def _decide_all(self, approver: Approver) -> None:
        while True:
            approval = await self._approvals.get()
            if approval.approval_id in self._feed.view.approvals:
                await self._decide(approval, approver)

    async def _decide(self, approval: v1.Approval, approver: Approver) -> None:
        decision = await approver.decide(approval)
        if decision is None:
            return
        try:
            await self._chat.decide(
                approval,
                decision.verdict,
                edited_arguments_json=decision.edited_arguments_json,
                comment=decision.comment,
            )
        except Rejected as error:
            self._printer.line(render.quiet(f"the decision was not taken: {render.error_words(error.error)}"))
            # Such as edits that do not fit the tool: what is still open is asked again.
            if error.reason not in _SETTLED:
                self._approvals.put_nowait(approval)

    def _status(self) -> Exit | None:
        if self._forced:
            return Exit.INTERRUPTED
        turn_id = self._turn_of.get(self._ack.seq) if self._ack is not None else None
        if turn_id is None:
            return None
        finished = self._feed.view.finished.get(turn_id)
        if finished is not None:
            return _STATUSES.get(finished.state, Exit.FAILED)
        asked = self._feed.view.question is not None and turn_id in self._feed.view.turns
        return Exit.WAITING_FOR_USER if asked else None

    @contextmanager
    def _interrupts(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, self.interrupt)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGINT)

    async def _cancel_when_interrupted(self) -> None:
        await self._until(lambda: self._interrupted)
        self._printer.line(render.quiet("cancelling; Ctrl-C once more leaves at once"))
        try:
            await self._chat.cancel(reason="stopped by the user")
        except Rejected:
            # Nothing runs (yet, or any more): there is nothing to wait for.
            self.interrupt()


def event_json(event: v1.SessionEvent) -> str:
    """An event as one line of JSON."""
    found = json_format.MessageToDict(event, preserving_proto_field_name=True)
    return json.dumps(found, ensure_ascii=False)
