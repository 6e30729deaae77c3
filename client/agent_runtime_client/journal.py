"""The journal of tool calls: what was started and what came of it, kept through crashes."""

from pathlib import Path
from typing import Self


class Journal:
    """One client's journal in a directory of its own; holds the directory's lock until closed."""

    client_id: str

    @classmethod
    def for_workspace(cls, workspace: Path, *, session_id: str = "") -> Self:
        """Open a free journal for clients of `workspace`, in the user's state directory."""
        raise NotImplementedError

    @classmethod
    def open(cls, directory: Path, *, session_id: str = "") -> Self:
        """Open a free journal below `directory`; a second process gets another one."""
        raise NotImplementedError

    def close(self) -> None:
        """Give the lock back."""
