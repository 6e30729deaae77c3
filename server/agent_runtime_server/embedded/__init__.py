"""Real Postgres and Valkey servers from wheels, for a machine that has none."""

from agent_runtime_server.embedded.directories import default_state_dir, scratch_state_dir
from agent_runtime_server.embedded.errors import EmbeddedError
from agent_runtime_server.embedded.launcher import Embedded, embedded

__all__ = ["Embedded", "EmbeddedError", "default_state_dir", "embedded", "scratch_state_dir"]
