"""The standard tools, each called as a server would."""

import asyncio
import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_runtime import v1
from agent_runtime_client import Limits, LocalTools
from agent_runtime_client.tools.content import cut
from agent_runtime_client.tools.output import HeadAndTail

Result = v1.ToolResult
LIMITS = Limits(
    read_bytes=2000,
    write_bytes=1000,
    content_bytes=500,
    output_bytes=200,
    list_entries=5,
    search_seconds=1,
    kill_seconds=0.2,
)


class Bench:
    """A workspace and the tools in it."""

    def __init__(self, workspace: Path) -> None:
        self.workspace = workspace
        self.progress: list[str] = []
        self._tools = LocalTools(workspace, limits=LIMITS)

    async def call(self, tool: str, deadline: float = math.inf, **arguments: Any) -> v1.ToolResult:
        call = v1.ToolCall(call_id="c1", tool_name=tool, arguments_json=json.dumps(arguments))
        return await self._tools.run(call, deadline, self.progress.append)

    async def text(self, tool: str, **arguments: Any) -> str:
        result = await self.call(tool, **arguments)
        assert (result.status, result.error_message) == (Result.STATUS_SUCCEEDED, "")
        return result.content[0].text


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    workspace = tmp_path / "work"
    workspace.mkdir()
    return Bench(workspace)


async def test_specs_are_what_the_server_accepts() -> None:
    for spec in LocalTools(Path()).specs:
        assert json.loads(spec.input_schema_json)["type"] == "object"
        assert spec.description
        assert spec.effect
        assert spec.idempotent == (spec.effect == v1.TOOL_EFFECT_READ)


@pytest.mark.parametrize(
    ("tool", "arguments", "field"),
    [
        ("read_file", {}, "path"),
        ("read_file", {"path": 3}, "path"),
        ("read_file", {"path": "f", "start_line": 0}, "start_line"),
        ("read_file", {"path": "f", "encoding": "klingon"}, "encoding"),
        ("write_file", {"path": "f"}, "content"),
        ("write_file", {"path": "f", "content": "x" * 2000}, "content"),
        ("write_file", {"path": "f", "content": "é", "encoding": "ascii"}, "content"),
        ("list_files", {"recursive": "yes"}, "recursive"),
        ("search_in_code", {"query": ""}, "query"),
        ("search_in_code", {"query": "x", "max_results": 0}, "max_results"),
        ("search_in_code", {"query": "(", "regex": True}, "query"),
        ("execute_command", {"command": "true", "timeout": 301}, "timeout"),
        ("execute_command", {"command": "true", "cwd": "nowhere"}, "path"),
        ("fly", {}, "this client has no tool"),
    ],
)
async def test_bad_arguments_are_named(bench: Bench, tool: str, arguments: dict[str, Any], field: str) -> None:
    (bench.workspace / "f").touch()
    result = await bench.call(tool, **arguments)
    assert result.status == Result.STATUS_FAILED
    assert result.error_message.startswith(field)


async def test_what_the_sandbox_refuses_is_rejected(bench: Bench) -> None:
    result = await bench.call("read_file", path="/etc/passwd")
    assert (result.call_id, result.status) == ("c1", Result.STATUS_REJECTED)


async def test_read_file_gives_lines_as_they_are(bench: Bench) -> None:
    (bench.workspace / "f").write_bytes(b"one\r\ntwo\x0bx\nthree")
    assert await bench.text("read_file", path="f") == "one\r\ntwo\x0bx\nthree"
    assert await bench.text("read_file", path="f", start_line=2) == "two\x0bx\nthree"
    assert await bench.text("read_file", path="f", start_line=1, end_line=1) == "one\r"
    assert await bench.text("read_file", path="f", end_line=99, start_line=3) == "three"
    for wrong in ({"start_line": 4}, {"start_line": 2, "end_line": 1}):
        assert (await bench.call("read_file", path="f", **wrong)).status == Result.STATUS_FAILED


async def test_read_file_cuts_what_is_too_long_and_says_so(bench: Bench) -> None:
    (bench.workspace / "f").write_text("é" * 400)
    result = await bench.call("read_file", path="f")
    assert result.content[0].text == "é" * 250
    assert (result.truncated, result.original_size_bytes) == (True, 800)
    (bench.workspace / "huge").write_text("é" * 4000)
    result = await bench.call("read_file", path="huge")
    assert (result.truncated, result.original_size_bytes) == (True, 8000)


async def test_read_file_does_not_show_bytes_as_text(bench: Bench) -> None:
    (bench.workspace / "f").write_bytes(b"\xff\xfe\x00")
    assert "no utf-8 text" in (await bench.call("read_file", path="f")).error_message
    assert await bench.text("read_file", path="f", encoding="latin-1") == "ÿþ\x00"


async def test_write_file_leaves_nothing_but_the_file(bench: Bench) -> None:
    await bench.text("write_file", path="d/f", content="one", create_dirs=True)
    await bench.text("write_file", path="d/f", content="two", backup=True)
    assert [path.name for path in (bench.workspace / "d").iterdir()] == ["f"]
    assert (bench.workspace / "d" / "f").read_text() == "two"
    assert (await bench.call("write_file", path="e/f", content="x")).status == Result.STATUS_FAILED


async def test_list_files_marks_kinds_and_hides_the_hidden(bench: Bench) -> None:
    for name in ("a/x.py", "a/y.txt", "b/.h/z.py", ".k"):
        path = bench.workspace / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (bench.workspace / "l").symlink_to("a")
    assert await bench.text("list_files") == "a/\nb/\nl@"
    assert await bench.text("list_files", recursive=True, pattern="*.py") == "a/x.py"
    assert await bench.text("list_files", recursive=True, include_hidden=True, pattern="*.py") == "a/x.py\nb/.h/z.py"
    assert await bench.text("list_files", path="a", pattern="**/*.txt") == "y.txt"
    assert await bench.text("list_files", path="a", pattern="nothing") == "no entries"


async def test_list_files_stops_at_its_limit(bench: Bench) -> None:
    for number in range(9):
        (bench.workspace / str(number)).touch()
    result = await bench.call("list_files")
    assert result.truncated
    assert result.content[0].text.endswith("[stopped at 5 entries; there are more]")


async def test_names_that_are_no_text_do_no_harm(bench: Bench) -> None:
    (bench.workspace / os.fsdecode(b"\xff")).write_text("needle")
    assert await bench.text("list_files") == "?"
    assert await bench.text("search_in_code", query="needle") == "?:1: needle"


async def test_search_finds_lines(bench: Bench) -> None:
    (bench.workspace / "d").mkdir()
    (bench.workspace / "d" / "a.py").write_text("x\n  Needle here\n")
    (bench.workspace / "b.txt").write_text("needle\n")
    (bench.workspace / "c.bin").write_bytes(b"\0needle")
    (bench.workspace / ".git").mkdir()
    (bench.workspace / ".git" / "d").write_text("needle")
    (bench.workspace / "l").symlink_to("b.txt")
    assert await bench.text("search_in_code", query="needle") == "b.txt:1: needle\nd/a.py:2: Needle here"
    assert await bench.text("search_in_code", query="needle", case_sensitive=True) == "b.txt:1: needle"
    assert await bench.text("search_in_code", query="^n.+e$", regex=True) == "b.txt:1: needle"
    assert await bench.text("search_in_code", query="needle", path="d") == "d/a.py:2: Needle here"
    assert await bench.text("search_in_code", query="needle", path="b.txt") == "b.txt:1: needle"
    assert await bench.text("search_in_code", query="needle", file_pattern="*.py") == "d/a.py:2: Needle here"
    assert await bench.text("search_in_code", query="haystack") == "no matches"
    few = await bench.call("search_in_code", query="needle", max_results=1)
    assert few.truncated


async def test_a_search_that_would_take_years_is_ended_and_keeps_what_it_found(bench: Bench) -> None:
    (bench.workspace / "a").write_text("aaaa\n")
    (bench.workspace / "b").write_text("a" * 60 + "!")
    result = await bench.call("search_in_code", query="^(a+)+$", regex=True)
    assert result.truncated
    assert result.content[0].text == "a:1: aaaa\n[stopped after 1 s; there may be more]"


async def test_a_command_tells_its_output_and_its_code(bench: Bench) -> None:
    (bench.workspace / "d").mkdir()
    assert await bench.text("execute_command", command="pwd; echo oops >&2", cwd="d") == (
        f"exit code: 0\n{bench.workspace}/d\noops\n"
    )
    assert "".join(bench.progress) == f"{bench.workspace}/d\noops\n"
    result = await bench.call("execute_command", command="echo no; exit 3")
    assert (result.status, result.error_message) == (Result.STATUS_FAILED, "exit code 3")
    assert result.content[0].text == "exit code: 3\nno\n"


async def test_a_command_reads_nothing_and_knows_no_key(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_RUNTIME_LLM_API_KEY", "sesame")
    assert "sesame" not in await bench.text("execute_command", command="cat; env")


async def test_long_output_keeps_its_beginning_and_its_end(bench: Bench) -> None:
    result = await bench.call("execute_command", command="echo first; seq 1000; echo last")
    text = result.content[0].text
    assert text.startswith("exit code: 0\nfirst\n")
    assert text.endswith("last\n")
    assert "bytes left out" in text
    assert (result.truncated, result.original_size_bytes) == (True, 3904)


async def alive(marker: str) -> bool:
    process = await asyncio.create_subprocess_exec("pgrep", "-f", marker, stdout=asyncio.subprocess.DEVNULL)
    return await process.wait() == 0


@pytest.mark.parametrize(
    "command",
    ["trap '' TERM; sleep 4711.{n} & sleep 4711.{n}", "sh -c 'sleep 4711.{n}; true'; true", "sleep 4711.{n} & wait"],
)
async def test_a_command_out_of_time_is_killed_with_all_its_processes(bench: Bench, command: str) -> None:
    number = os.getpid()
    result = await bench.call("execute_command", command="echo begun; " + command.format(n=number), timeout=0.2)
    assert result.status == Result.STATUS_TIMED_OUT
    assert result.content[0].text == "timed out after 0.2 s\nbegun\n"
    assert not await alive(f"sleep 4711.{number}")


async def test_what_a_command_leaves_in_the_background_goes_with_it(bench: Bench) -> None:
    number = os.getpid()
    assert await bench.text("execute_command", command=f"sleep 4712.{number} & echo done") == "exit code: 0\ndone\n"
    assert not await alive(f"sleep 4712.{number}")


async def test_a_cancelled_command_is_killed(bench: Bench) -> None:
    number = os.getpid()
    async with asyncio.TaskGroup() as group:
        running = group.create_task(bench.call("execute_command", command=f"echo up; sleep 4713.{number}"))
        while not bench.progress:  # noqa: ASYNC110 - the command tells when it is up
            await asyncio.sleep(0.01)
        running.cancel()
    assert running.cancelled()
    assert not await alive(f"sleep 4713.{number}")


async def test_a_command_too_near_its_deadline_is_not_started(bench: Bench) -> None:
    now = asyncio.get_running_loop().time()
    result = await bench.call("execute_command", deadline=now + 1, command="touch here")
    assert result.status == Result.STATUS_TIMED_OUT
    assert not (bench.workspace / "here").exists()


@given(st.lists(st.binary(max_size=30), max_size=20), st.integers(2, 60))
def test_what_is_kept_of_an_output_is_its_two_ends(pieces: list[bytes], limit: int) -> None:
    kept, whole = HeadAndTail(limit), b"".join(pieces)
    for piece in pieces:
        kept.add(piece)
    assert kept.size == len(whole)
    if kept.dropped:
        half = limit // 2
        assert kept.dropped == len(whole) - 2 * half
        assert kept.text().startswith(whole[:half].decode("utf-8", "replace"))
        assert kept.text().endswith(whole[-half:].decode("utf-8", "replace"))
    else:
        assert kept.text() == whole.decode("utf-8", "replace")


@given(st.text(), st.integers(0, 40))
def test_a_cut_never_breaks_a_character(text: str, limit: int) -> None:
    shown, size = cut(text, limit)
    assert len(shown.encode()) <= limit
    assert size == len(text.encode("utf-8", "replace"))
    assert text.encode("utf-8", "replace").decode().startswith(shown)
