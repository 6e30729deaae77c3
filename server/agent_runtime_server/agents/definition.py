"""What an agent is: its prompt, its tools and whom it may hand over to."""

import hashlib
import json
import posixpath
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase

from agent_runtime import v1
from agent_runtime_server.tools import catalogue

_REVISION_LENGTH = 16


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent. `tools` are the names it may call; `write_patterns` the file names write_file may touch."""

    agent_id: str
    display_name: str
    description: str
    prompt: str
    tools: tuple[str, ...]
    model: str | None = None
    takes_extra_tools: bool = False
    write_patterns: tuple[str, ...] = ("*",)
    handoff_agent_ids: tuple[str, ...] = ()
    routable: bool = True
    revision: str = field(init=False, default="")

    def __post_init__(self) -> None:
        content = json.dumps(asdict(self), sort_keys=True)
        revision = hashlib.sha256(content.encode()).hexdigest()[:_REVISION_LENGTH]
        object.__setattr__(self, "revision", revision)

    def may_call(self, tool_name: str, *, extra: bool) -> bool:
        """Tell whether the tool is on the list; `extra` marks a tool only the client knows."""
        return tool_name in self.tools or (extra and self.takes_extra_tools)

    def allows(self, tool_name: str, arguments: Mapping[str, object], extra: bool) -> str | None:
        """Return why the agent may not make this call, as the model is told, or None."""
        if not self.may_call(tool_name, extra=extra):
            known = ", ".join(self.tools)
            return f"The agent {self.agent_id} may not call {tool_name}. It may call: {known}."
        if tool_name == "write_file" and not self._may_write(arguments.get("path")):
            patterns = ", ".join(self.write_patterns)
            return f"The agent {self.agent_id} may only write files named {patterns}."
        return None

    def _may_write(self, path: object) -> bool:
        if "*" in self.write_patterns:
            return True
        if not isinstance(path, str) or not path.isprintable():
            return False
        name = posixpath.basename(posixpath.normpath(path)).casefold()
        return any(fnmatchcase(name, pattern.casefold()) for pattern in self.write_patterns)

    def to_proto(self) -> v1.Agent:
        """Return the agent as the catalogue shows it."""
        return v1.Agent(
            agent_id=self.agent_id,
            revision=self.revision,
            display_name=self.display_name,
            description=self.description,
            model=self.model or "",
            server_tools=[spec for name, spec in catalogue.SERVER.items() if name in self.tools],
            handoff_agent_ids=self.handoff_agent_ids,
        )
