"""Which sessions of this replica somebody has to see to, so that nobody has to look at all of them to find out."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from weakref import WeakSet

if TYPE_CHECKING:
    from agent_runtime_server.engine.session import Session


@dataclass(frozen=True, slots=True)
class Roll:
    """Sessions keep their places on it themselves."""

    followed: "set[Session]" = field(default_factory=set)
    """Those with feeds."""
    busy: "set[Session]" = field(default_factory=set)
    """Those of them in a turn."""
    grown: "WeakSet[Session]" = field(default_factory=WeakSet)
    """Those whose log has grown, until somebody takes note; it keeps none of them alive."""

    def follow(self, session: "Session") -> None:
        """Put a session where it belongs by who follows it and what it does."""
        _put(self.followed, session, there=session.followed)
        _put(self.busy, session, there=session.followed and session.busy)

    def take_grown(self) -> "set[Session]":
        """Return those that have grown since the last time."""
        taken = set(self.grown)
        self.grown.clear()
        return taken


def _put(sessions: "set[Session]", session: "Session", *, there: bool) -> None:
    if there:
        sessions.add(session)
    else:
        sessions.discard(session)
