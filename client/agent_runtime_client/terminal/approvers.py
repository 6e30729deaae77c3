"""Who decides approvals in a run with no chat prompt: a rule, somebody else, or the person at the terminal."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rich.text import Text

from agent_runtime import v1
from agent_runtime_client.terminal import approvals, calls, edit, render
from agent_runtime_client.terminal.approvals import Choice
from agent_runtime_client.terminal.prompt import Prompt

Say = Callable[[Text], None]


@dataclass(frozen=True)
class Decision:
    """A verdict with what belongs to it."""

    verdict: "v1.ApprovalVerdict.ValueType"
    edited_arguments_json: str = ""
    comment: str = ""


class Approver(Protocol):
    """Decides one approval at a time."""

    async def decide(self, approval: v1.Approval) -> Decision | None:
        """Return the decision; None leaves it to others."""
        ...


class ApproveAll:
    """Approves everything and shows what."""

    def __init__(self, say: Say, workspace: Path, why: str) -> None:
        self._say = say
        self._workspace = workspace
        self._why = why

    async def decide(self, approval: v1.Approval) -> Decision | None:
        """Approve it."""
        self._say(approvals.approval_view(approval, self._workspace))
        self._say(render.quiet(f"  approved: {self._why}"))
        return Decision(v1.APPROVAL_VERDICT_APPROVE)


class RejectAll:
    """Rejects everything."""

    async def decide(self, approval: v1.Approval) -> Decision | None:  # noqa: ARG002 - all are the same to it
        """Reject it."""
        return Decision(v1.APPROVAL_VERDICT_REJECT, comment="this run approves nothing")


class LeaveToReview:
    """Leaves everything to another terminal, and says so."""

    def __init__(self, say: Say, target: str) -> None:
        self._say = say
        self._target = target

    async def decide(self, approval: v1.Approval) -> Decision | None:
        """Tell where it can be decided."""
        self._say(
            Text.assemble(
                ("? waiting for a decision: ", "bold yellow"),
                calls.call_line(approval.tool_call),
                f"\n  decide it with: agent-runtime review --target {self._target}  (or run with --approve all)",
            )
        )
        return None


class AskHere:
    """Asks the person at this terminal."""

    def __init__(self, say: Say, workspace: Path | None, on_interrupt: Callable[[], None]) -> None:
        self._say = say
        self._workspace = workspace
        self._on_interrupt = on_interrupt
        self._prompt = Prompt(_choices, lambda: "", self._interrupted)

    async def decide(self, approval: v1.Approval) -> Decision | None:
        """Show it and ask until there is a plain answer; None when the person leaves."""
        self._say(approvals.approval_view(approval, self._workspace))
        while True:
            try:
                line = await self._prompt.read()
            except EOFError:
                return None
            if line.strip() and (decision := await self._decision(approval, line)) is not None:
                return decision

    def _interrupted(self) -> None:
        self._prompt.leave()
        self._on_interrupt()

    async def _decision(self, approval: v1.Approval, line: str) -> Decision | None:
        answer = approvals.parse_answer(line)
        match answer.choice:
            case Choice.APPROVE:
                return Decision(v1.APPROVAL_VERDICT_APPROVE)
            case Choice.REJECT:
                return Decision(v1.APPROVAL_VERDICT_REJECT, comment=answer.comment)
            case Choice.EDIT:
                return await self._edited(approval)
            case Choice.VIEW:
                self._say(approvals.approval_view(approval, self._workspace, rows=None))
            case Choice.UNCLEAR:
                self._say(render.quiet(f"choose one: {approvals.CHOICES}"))
        return None

    async def _edited(self, approval: v1.Approval) -> Decision | None:
        try:
            arguments = await edit.edit_call(approval.tool_call, self._prompt)
        except edit.EditFailed as error:
            self._say(render.quiet(f"nothing was decided: {error}"))
            return None
        if arguments is None:
            self._say(render.quiet("nothing was changed and nothing decided"))
            return None
        self._say(approvals.edited_view(approval, arguments, self._workspace))
        return Decision(v1.APPROVAL_VERDICT_APPROVE_WITH_EDITS, edited_arguments_json=arguments)


def _choices() -> Text:
    return Text(f"{approvals.CHOICES} » ", "yellow")
