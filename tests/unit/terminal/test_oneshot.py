"""One message, its turn, and the exit status."""

import asyncio
import io
from collections.abc import AsyncIterator, Sequence
from typing import cast

import pytest
from rich.console import Console

from agent_runtime import v1
from agent_runtime_client import CaughtUp, Chat, ChatUpdate, Rejected
from agent_runtime_client.terminal.approvers import Approver, Decision, RejectAll
from agent_runtime_client.terminal.failures import Exit
from agent_runtime_client.terminal.oneshot import OneShot
from agent_runtime_client.terminal.printer import Printer
from terminalkit.messages import answered, asked, call, finished, resolved, said_by_user


class ScriptedChat:
    """Tells its updates once something was said to it."""

    client_id = "me"

    def __init__(self, *after: ChatUpdate, before: Sequence[ChatUpdate] = (), refuse: bool = False) -> None:
        self._before = [*before, CaughtUp(0)]
        self._after = after
        self._refuse = refuse
        self._said = asyncio.Event()
        self._cancelled = asyncio.Event()
        self.decisions: list[int] = []
        self.decided = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[ChatUpdate]:
        for update in self._before:
            yield update
        await self._said.wait()
        for update in self._after:
            yield update
        await self._cancelled.wait()
        yield finished(v1.TURN_STATE_CANCELLED)
        await asyncio.Event().wait()

    async def send(self, text: str, *, agent_id: str = "") -> v1.FrameAck:
        self._said.set()
        return v1.FrameAck(seq=7)

    async def decide(self, approval: v1.Approval, verdict: int, **_: str) -> v1.FrameAck:
        self.decisions.append(verdict)
        self.decided.set()
        if self._refuse:
            raise Rejected(v1.Error(reason="APPROVAL_ALREADY_RESOLVED", message="somebody was quicker"))
        return v1.FrameAck()

    async def cancel(self, *, reason: str = "") -> v1.FrameAck:
        self._cancelled.set()
        return v1.FrameAck()


class Outcome:
    """What a run printed and how it ended."""

    def __init__(self, chat: ScriptedChat, approver: Approver | None = None) -> None:
        self.answers, self.activity = io.StringIO(), io.StringIO()
        printer = Printer(Console(file=self.answers), Console(file=self.activity))
        self.shot = OneShot(cast("Chat", chat), printer)
        self._approver = approver or RejectAll()

    async def status(self) -> Exit:
        return await self.shot.run("go", self._approver)


async def test_the_answer_is_printed_apart_from_what_happens_around_it() -> None:
    outcome = Outcome(ScriptedChat(said_by_user("go", seq=7), answered("Here \x1b[2Jyou are"), finished()))
    assert await outcome.status() is Exit.OK
    assert outcome.answers.getvalue() == "Here you are\n"
    assert "done in" in outcome.activity.getvalue()


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (v1.TURN_STATE_COMPLETED, Exit.OK),
        (v1.TURN_STATE_FAILED, Exit.FAILED),
        (v1.TURN_STATE_CANCELLED, Exit.INTERRUPTED),
    ],
)
async def test_the_exit_status_tells_how_the_turn_ended(state: "v1.TurnState.ValueType", status: Exit) -> None:
    assert await Outcome(ScriptedChat(said_by_user("go", seq=7), finished(state))).status() is status


async def test_a_question_ends_the_run_with_a_status_of_its_own() -> None:
    question = v1.QuestionAsked(question=v1.Question(question_id="q", text="Which?"))
    event = said_by_user("go", seq=7)
    asks = type(event)(v1.SessionEvent(seq=8, turn_id="t1", question_asked=question))
    assert await Outcome(ScriptedChat(event, asks)).status() is Exit.WAITING_FOR_USER


async def test_history_is_not_printed_and_other_turns_do_not_end_the_run() -> None:
    before = [said_by_user("old", turn_id="t0", seq=2), answered("old answer", message_id="m0")]
    late = finished(v1.TURN_STATE_FAILED, turn_id="t0")
    chat = ScriptedChat(late, said_by_user("go", seq=7), answered("new"), finished(), before=before)
    outcome = Outcome(chat)
    assert await outcome.status() is Exit.OK
    assert outcome.answers.getvalue() == "new\n"


async def test_approvals_are_decided_by_the_approver() -> None:
    chat = ScriptedChat(said_by_user("go", seq=7), asked(call("write_file", path="a")))
    outcome = Outcome(chat)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(outcome.status())
        await chat.decided.wait()
        outcome.shot.interrupt()
    assert running.result() is Exit.INTERRUPTED
    assert chat.decisions == [v1.APPROVAL_VERDICT_REJECT]


async def test_an_approval_that_somebody_else_decided_is_not_asked_for() -> None:
    class Never:
        async def decide(self, approval: v1.Approval) -> Decision | None:
            raise AssertionError("it was decided already")

    write = call("write_file", path="a")
    before = [asked(write), resolved(write, v1.APPROVAL_STATE_APPROVED)]
    chat = ScriptedChat(said_by_user("go", seq=7), finished(), before=before)
    assert await Outcome(chat, Never()).status() is Exit.OK


async def test_a_second_interrupt_does_not_wait_for_the_server() -> None:
    outcome = Outcome(ScriptedChat(before=[]))
    outcome.shot.interrupt()
    outcome.shot.interrupt()
    assert await outcome.status() is Exit.INTERRUPTED
