"""What the turns of a session take beside models: tool calls, and time.

Both only grow, and are told by the log alone. So what each commit has added to them, counted by whoever committed it,
is all there is, and nothing twice.
"""

from dataclasses import dataclass
from typing import Final

from agent_runtime import v1
from agent_runtime_server.engine.state import State

_MILLI: Final = 1_000_000  # nanoseconds


@dataclass(frozen=True, slots=True)
class Work:
    """How much of it there was at a moment, and whose turn was running."""

    tool_calls: int
    millis: int
    subject: str

    def until(self, state: State) -> v1.Usage | None:
        """Return what has been added since, None when nothing has."""
        now = done(state)
        if (now.tool_calls, now.millis) == (self.tool_calls, self.millis):
            return None
        return v1.Usage(tool_calls=now.tool_calls - self.tool_calls, worked_millis=now.millis - self.millis)


def done(state: State) -> Work:
    """Return what all turns of a session have taken up to its last event."""
    turn = state.turn
    if turn is None:
        return Work(state.tool_calls, state.worked_nanos // _MILLI, "")
    worked = state.worked_nanos + turn.worked_nanos(state.last_nanos)
    return Work(state.tool_calls + turn.tool_calls, worked // _MILLI, turn.subject)


def usual(state: State) -> int:
    """Return how many milliseconds a step of the running turn took so far, as each takes on average."""
    turn = state.turn
    if turn is None or not turn.steps:
        return 0
    return turn.worked_nanos(state.last_nanos) // turn.steps // _MILLI
