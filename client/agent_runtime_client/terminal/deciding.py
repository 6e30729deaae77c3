"""The approvals in front of one person: which one is decided now, and which were answered."""

from collections.abc import Mapping
from pathlib import Path

from agent_runtime import v1


class Desk:
    """Puts pending approvals before a person one after another."""

    def __init__(self, workspace: Path | None) -> None:
        self.workspace = workspace
        self.current: v1.Approval | None = None
        self.waiting = 0  # pending beside the current one
        self._answered: set[str] = set()

    def choose(self, pending: Mapping[str, v1.Approval]) -> v1.Approval | None:
        """Stay with the current approval while it is pending, else take the oldest unanswered one."""
        unanswered = {key: approval for key, approval in pending.items() if key not in self._answered}
        self.waiting = max(len(unanswered) - 1, 0)
        if self.current is None or self.current.approval_id not in unanswered:
            self.current = next(iter(unanswered.values()), None)
        return self.current

    def answered(self, approval: v1.Approval) -> None:
        """Go on to the next; the decision is on its way."""
        self._answered.add(approval.approval_id)

    def reopen(self, approval: v1.Approval) -> None:
        """The decision was refused: it is open again, as long as it is pending."""
        self._answered.discard(approval.approval_id)
