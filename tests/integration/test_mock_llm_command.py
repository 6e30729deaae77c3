"""`agent-runtime mock-llm` as a program."""

import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PROGRAM = (
    "import cyclopts; from agent_runtime_server.commands.mock_llm import mock_llm; "
    "app = cyclopts.App(); app.command(mock_llm); app()"
)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", PROGRAM, "mock-llm", *arguments]


@contextmanager
def running(*arguments: str) -> Iterator[str]:
    with subprocess.Popen(command("--port", "0", *arguments), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        line = process.stdout.readline()
        assert line.startswith("mock model on http://127.0.0.1:")
        yield line.split()[-1]
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def fetched(url: str, body: object = None) -> object:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.load(response)


def test_it_says_where_it_is_answers_and_keeps_a_journal(tmp_path: Path) -> None:
    (tmp_path / "script.json").write_text(json.dumps([{"match": {"last_user": "hi"}, "answer": {"text": "scripted"}}]))
    journal = tmp_path / "journal.jsonl"
    with running("--script", str(tmp_path / "script.json"), "--journal", str(journal), "--delay-ms", "0") as url:
        assert "mock" in str(fetched(f"{url}/models"))
        ask = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
        assert "scripted" in str(fetched(f"{url}/chat/completions", ask))
        root = url.removesuffix("/v1")
        assert fetched(f"{root}/script", [{"answer": {"text": "replaced"}}]) == {"rules": 1}
        assert "replaced" in str(fetched(f"{url}/chat/completions", ask))
        seen = fetched(f"{root}/journal")
        assert isinstance(seen, list)
        assert [entry["outcome"] for entry in seen] == ["answered", "answered"]
        with pytest.raises(urllib.error.HTTPError, match="400"):
            fetched(f"{root}/script", [{"what": 1}])
        with pytest.raises(urllib.error.HTTPError, match="400"):
            fetched(f"{url}/chat/completions", {"model": "m", "messages": []})
    assert [json.loads(line)["number"] for line in journal.read_text().splitlines()] == [1, 2, 3]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--script", "/nowhere.json"], "--script: /nowhere.json"),
        (["--port", "70000"], "--port must be"),
        (["--delay-ms", "-1"], "--delay-ms must be"),
        (["--journal", "/nowhere/x", "--port", "0"], "--journal"),
        (["--host", "203.0.113.1", "--port", "0"], "203.0.113.1"),
    ],
)
def test_bad_input_ends_it_with_one_clear_line(arguments: list[str], words: str) -> None:
    done = subprocess.run(command(*arguments), capture_output=True, text=True, timeout=20)
    assert done.returncode != 0
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
