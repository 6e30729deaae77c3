"""The data of a new Postgres: made once by each process, and copied for every server that begins with none."""

import atexit
import subprocess
import sys
from contextlib import ExitStack
from functools import cache
from pathlib import Path

from agent_runtime_server.embedded import scratch_state_dir


def begin_with_postgres_data(state_dir: Path) -> None:
    """Put new data where the embedded Postgres of a state directory has it: that is much quicker than to make it."""
    home = state_dir / "postgres"
    home.mkdir(mode=0o711, parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", _original(), home / "data"], check=True)


@cache
def _original() -> Path:
    """Have an embedded Postgres make its data and end."""
    kept = ExitStack()
    atexit.register(kept.close)
    state_dir = kept.enter_context(scratch_state_dir())
    supervisor = [sys.executable, "-m", "agent_runtime_server.embedded", str(state_dir), "postgres"]
    with subprocess.Popen(supervisor, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        said = process.stdout.readline()
        process.stdin.close()
    assert process.returncode == 0, said
    return state_dir / "postgres" / "data"
