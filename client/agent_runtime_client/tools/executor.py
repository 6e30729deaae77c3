"""What a chat needs of whoever runs its tool calls."""

from collections.abc import Callable, Sequence
from typing import Protocol

from agent_runtime import v1


class ToolExecutor(Protocol):
    """Runs client tools; calls may run side by side."""

    @property
    def specs(self) -> Sequence[v1.ToolSpec]:
        """The tools that can be run, as declared to the server."""
        ...

    async def run(self, call: v1.ToolCall, deadline: float, progress: Callable[[str], None]) -> v1.ToolResult:
        """Run one call until `deadline` (the event loop's clock) and return its result.

        Being cancelled means that the turn was stopped: undo or stop what can be, then let
        CancelledError pass. Any other exception becomes a FAILED result.
        """
        ...
