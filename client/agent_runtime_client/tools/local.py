"""The standard tools as one executor."""

from collections.abc import Callable, Sequence
from pathlib import Path

from agent_runtime import v1
from agent_runtime_client.tools.limits import Limits


class LocalTools:
    """Runs the standard client tools inside `workspace`; commands are NOT sandboxed."""

    def __init__(self, workspace: Path, *, limits: Limits = Limits()) -> None:  # noqa: B008 - frozen
        raise NotImplementedError

    @property
    def specs(self) -> Sequence[v1.ToolSpec]:
        """The standard tools."""
        raise NotImplementedError

    async def run(self, call: v1.ToolCall, deadline: float, progress: Callable[[str], None]) -> v1.ToolResult:
        """Run one call."""
        raise NotImplementedError
