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
        self.deciding = ""  # id of the approval whose decision is on its way

    def choose(self, pending: Mapping[str, v1.Approval]) -> v1.Approval | None:
        """Stay with the current approval while it is pending, else take the oldest; none while one is decided."""
        self.waiting = max(len(pending) - 1, 0)
        if self.deciding in pending:
            return None
        self.deciding = ""
        if self.current is None or self.current.approval_id not in pending:
            self.current = next(iter(pending.values()), None)
        return self.current

    def answered(self, approval: v1.Approval) -> None:
        """The decision is on its way; the next approval waits until its outcome is known."""
        self.current, self.deciding = None, approval.approval_id

    def reopen(self) -> None:
        """The decision was refused: it is open again, as long as it is pending."""
        self.deciding = ""
