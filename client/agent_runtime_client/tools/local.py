"""The standard tools as one executor."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from agent_runtime import v1
from agent_runtime_client.errors import ToolFailed, ToolRefused
from agent_runtime_client.tools import files
from agent_runtime_client.tools.arguments import Arguments
from agent_runtime_client.tools.command import execute_command
from agent_runtime_client.tools.limits import Limits
from agent_runtime_client.tools.sandbox import Sandbox
from agent_runtime_client.tools.search import search_in_code
from agent_runtime_client.tools.specs import standard_specs

_FILE_TOOLS: Final[Mapping[str, Callable[[Sandbox, Limits, Arguments], v1.ToolResult]]] = {
    "create_directory": files.create_directory,
    "list_files": files.list_files,
    "read_file": files.read_file,
    "write_file": files.write_file,
}
_DEFAULT_LIMITS: Final = Limits()


class LocalTools:
    """Runs the standard client tools on this machine.

    The file tools stay inside `workspace` and follow no links. `execute_command` is NOT sandboxed: a
    command has all the rights of the user, and the approval before it is the only barrier.
    """

    def __init__(self, workspace: Path, *, limits: Limits = _DEFAULT_LIMITS) -> None:
        self._sandbox = Sandbox(workspace)
        self._limits = limits
        self._specs = tuple(standard_specs(limits))

    @property
    def specs(self) -> Sequence[v1.ToolSpec]:
        """The standard tools, as declared to the server."""
        return self._specs

    async def run(self, call: v1.ToolCall, deadline: float, progress: Callable[[str], None]) -> v1.ToolResult:
        """Run one call; what goes wrong with it is in the result."""
        try:
            result = await self._run(call, deadline, progress)
        except ToolRefused as error:
            result = _failed(v1.ToolResult.STATUS_REJECTED, str(error))
        except ToolFailed as error:
            result = _failed(v1.ToolResult.STATUS_FAILED, str(error))
        except OSError as error:
            result = _failed(v1.ToolResult.STATUS_FAILED, error.strerror or type(error).__name__)
        result.call_id = call.call_id
        return result

    async def _run(self, call: v1.ToolCall, deadline: float, progress: Callable[[str], None]) -> v1.ToolResult:
        arguments = Arguments(call)
        if call.tool_name in _FILE_TOOLS:
            tool = _FILE_TOOLS[call.tool_name]
            return await asyncio.to_thread(tool, self._sandbox, self._limits, arguments)
        if call.tool_name == "search_in_code":
            return await search_in_code(self._sandbox, self._limits, arguments)
        if call.tool_name == "execute_command":
            return await execute_command(self._sandbox, self._limits, arguments, deadline, progress)
        raise ToolFailed(f"this client has no tool named {call.tool_name!r}")


def _failed(status: "v1.ToolResult.Status.ValueType", message: str) -> v1.ToolResult:
    return v1.ToolResult(status=status, error_message=message)
