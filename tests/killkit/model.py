"""The script of the mock model: turns of several steps, with parallel calls, approvals and text that takes its time."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

SLOWLY = {"delay_ms": 25, "first_delay_ms": 30}
_WORDS = "This is a sentence that takes a while to be said."


def _call(name: str, **arguments: str | bool) -> dict[str, Any]:
    return {"name": name, "arguments": arguments}


def _ran(step: str, seconds: str) -> dict[str, Any]:
    """Return a command that leaves a mark for each time that it is run, and says which step comes next."""
    command = f"echo ran >> runs/{{1}}-{step}; sleep {seconds}; echo after-{step}"
    return _call("execute_command", command=command, shell=True)


SCRIPT: list[dict[str, Any]] = [
    {
        "match": {"last_role": "user", "last_user": "task (\\S+)"},
        "answer": {
            "text": _WORDS,
            "tool_calls": [
                _call("read_file", path="seed.txt"),
                _call("list_files", path="."),
                _call("write_file", path="notes/{1}.txt", content="note {1}\n", create_dirs=True),
                _ran("one", "0.2"),
            ],
        },
        "pace": SLOWLY,
    },
    {
        "match": {"last_role": "tool", "last_user": "task (\\S+)", "tool_result": "after-one"},
        "answer": {"text": _WORDS, "tool_calls": [_call("read_file", path="seed.txt"), _ran("two", "0.1")]},
        "pace": SLOWLY,
    },
    {"match": {"last_role": "tool"}, "answer": {"text": f"{_WORDS} {_WORDS}"}, "pace": SLOWLY},
]


@asynccontextmanager
async def model_process(folder: Path) -> AsyncIterator[str]:
    """Run the mock model with the script as a process of its own, and give its base URL."""
    script = folder / "script.json"
    script.write_text(json.dumps(SCRIPT))
    with (folder / "model.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "agent_runtime_cli", "mock-llm", "--port", "0", "--script", str(script)),
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
        )
    assert process.stdout is not None
    try:
        yield (await process.stdout.readline()).split()[-1].decode()
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
