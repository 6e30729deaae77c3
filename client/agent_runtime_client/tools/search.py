"""search_in_code: a search in a process of its own, killed when its time is up."""

import asyncio
import json
import os
import stat
import sys
from typing import Any

from agent_runtime import v1
from agent_runtime_client.errors import ToolFailed
from agent_runtime_client.tools import finding
from agent_runtime_client.tools.arguments import Arguments
from agent_runtime_client.tools.content import text_result
from agent_runtime_client.tools.limits import Limits
from agent_runtime_client.tools.sandbox import Sandbox


async def search_in_code(sandbox: Sandbox, limits: Limits, arguments: Arguments) -> v1.ToolResult:
    """Run one search; what was found before the time was up is kept."""
    parts = sandbox.parts(arguments.text("path", "."))
    order = {
        "query": arguments.text("query"),
        "file_pattern": arguments.text("file_pattern", "*") or "*",
        "case_sensitive": arguments.flag("case_sensitive", default=False),
        "regex": arguments.flag("regex", default=False),
        "max_results": int(arguments.number("max_results", 100, low=1, high=limits.search_results)),
        "line_length": limits.search_line,
        "file_bytes": limits.search_file_bytes,
    }
    if not order["query"]:
        raise ToolFailed("query: is empty")
    with sandbox.opened(parts) as root:
        is_directory = stat.S_ISDIR(os.fstat(root).st_mode)
        order["prefix"] = "/".join(parts) + ("/" if parts and is_directory else "")
        order["root"] = root
        lines, in_time = await _run(order, limits.search_seconds)
    return _told(lines, order, in_time=in_time, limits=limits)


async def _run(order: dict[str, Any], seconds: float) -> tuple[list[bytes], bool]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-S",
        finding.__file__,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        pass_fds=(order["root"],),
        env={},
        limit=1 << 20,
    )
    lines: list[bytes] = []
    try:
        async with asyncio.timeout(seconds):
            await _talk(process, order, lines)
    except TimeoutError:
        return lines, False
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
    return lines, True


async def _talk(process: asyncio.subprocess.Process, order: dict[str, Any], lines: list[bytes]) -> None:
    if process.stdin is None or process.stdout is None:
        raise ToolFailed("the search could not be started")
    process.stdin.write(json.dumps(order).encode())
    process.stdin.close()
    while line := await process.stdout.readline():
        lines.append(line)
    if await process.wait() != 0:
        raise ToolFailed("the search broke off; its query or a file is too much for it")


def _told(lines: list[bytes], order: dict[str, Any], *, in_time: bool, limits: Limits) -> v1.ToolResult:
    hits = []
    for line in lines:
        hit = json.loads(line)
        if isinstance(hit, dict):
            raise ToolFailed(hit["error"])
        hits.append(f"{hit[0]}:{hit[1]}: {hit[2]}")
    if not in_time:
        hits.append(f"[stopped after {limits.search_seconds:g} s; there may be more]")
    elif len(hits) >= order["max_results"]:
        hits.append(f"[stopped at {len(hits)} results; there may be more]")
    result = text_result("\n".join(hits) or "no matches", limits.content_bytes)
    result.truncated = result.truncated or not in_time or len(lines) >= order["max_results"]
    return result
