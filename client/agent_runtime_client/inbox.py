"""Which revisions of which approvals a reviewer was told."""

from typing import Final

from agent_runtime import v1

_MOST_CLOSED: Final = 4096


class Inbox:
    """Passes each revision of an approval once, and finds pending ones that a new list leaves out."""

    def __init__(self) -> None:
        self._pending: dict[str, int] = {}
        self._closed: dict[str, int] = {}
        self._listed: set[str] | None = None

    def is_news(self, approval: v1.Approval) -> bool:
        """Take one state of an approval; False when it, or a later one, was told before."""
        key, revision = approval.approval_id, approval.revision
        if self._listed is not None:
            self._listed.add(key)
        if revision <= max(self._pending.get(key, 0), self._closed.get(key, 0)):
            return False
        if approval.state == v1.APPROVAL_STATE_PENDING:
            self._pending[key] = revision
        else:
            self._pending.pop(key, None)
            self._close(key, revision)
        return True

    def begin_list(self) -> None:
        """Expect the full list of pending approvals."""
        self._listed = set()

    def end_list(self) -> list[str]:
        """Return the approvals that were pending before and are not in the list just read."""
        listed, self._listed = self._listed, None
        return [] if listed is None else [key for key in self._pending if key not in listed]

    def _close(self, key: str, revision: int) -> None:
        self._closed[key] = revision
        if len(self._closed) > _MOST_CLOSED:
            del self._closed[next(iter(self._closed))]
