"""`agent-runtime mock-llm`: the mock model as a program."""

import asyncio
import signal
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from agent_runtime_server.mockllm.script import Script, ScriptError, load_script
from agent_runtime_server.mockllm.server import mock_server


def mock_llm(
    *,
    host: Annotated[str, Parameter(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, Parameter(help="Port to listen on; 0 takes a free one.")] = 8089,
    script: Annotated[Path | None, Parameter(help="JSON file of rules; see above.")] = None,
    journal: Annotated[Path | None, Parameter(help="File to append each request to, a JSON line each.")] = None,
    delay_ms: Annotated[float, Parameter(help="Milliseconds from one token to the next.")] = 8,
) -> None:
    """Serve a mock model: an OpenAI-compatible endpoint that follows a script and a few keywords.

    It knows no language and is meant for demos and tests. POST /v1/chat/completions and GET /v1/models answer as
    an endpoint would; GET /journal shows the requests seen, POST /script replaces the rules.

    A script is a list of rules; the first that matches the request and is not used up answers:

        [{"match": {"last_user": "make (.+)", "has_tools": true, "times": 1},
          "answer": {"text": "I make {1}.", "tool_calls": [{"name": "create_directory", "arguments": {"path": "{1}"}}]},
          "pace": {"delay_ms": 20}, "fault": {"kind": "hang_mid", "after_tokens": 3}}]

    match: last_user, tool_result, system, model (regular expressions), last_role, has_tools, tools, times.
    answer: text, reasoning, tool_calls, usage, finish_reason; {1} is a group of the match.
    pace: tokens, delay_ms, first_delay_ms, chunk_bytes.
    fault: kind (status, error, hang, hang_mid, reset_mid, truncate, malformed, drip, not_streamed), status,
    message, retry_after, after_tokens.
    """
    if delay_ms < 0:
        raise SystemExit("agent-runtime mock-llm: --delay-ms must be at least 0")
    if not 0 <= port <= 65535:
        raise SystemExit("agent-runtime mock-llm: --port must be between 0 and 65535")
    if journal and not journal.parent.is_dir():
        raise SystemExit(f"agent-runtime mock-llm: --journal: there is no folder {journal.parent}")
    try:
        rules = load_script(script) if script else Script()
        asyncio.run(_serve(rules, host, port, journal, delay_ms))
    except ScriptError as error:
        raise SystemExit(f"agent-runtime mock-llm: --script: {error}") from error
    except OSError as error:
        raise SystemExit(f"agent-runtime mock-llm: {error.strerror or error}") from error


async def _serve(script: Script, host: str, port: int, journal: Path | None, delay_ms: float) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with mock_server(script, host=host, port=port, delay_ms=delay_ms, journal_file=journal) as server:
        sys.stdout.write(f"mock model on {server.base_url}\n")
        sys.stdout.flush()
        await stop.wait()
