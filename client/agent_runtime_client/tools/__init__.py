"""The standard client tools, run on this machine inside one workspace."""

from agent_runtime_client.tools.executor import ToolExecutor
from agent_runtime_client.tools.limits import Limits
from agent_runtime_client.tools.local import LocalTools

__all__ = ["Limits", "LocalTools", "ToolExecutor"]
