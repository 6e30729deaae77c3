"""The program finds its commands and never answers with a traceback."""

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint

import pytest

import agent_runtime_cli as cli


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def install(**entries: str) -> None:
        found = [EntryPoint(name, value, cli.GROUP) for name, value in entries.items()]
        monkeypatch.setattr(cli, "entry_points", lambda **_: found)

    return install


def test_a_missing_extra_is_named_in_one_line(
    commands: Callable[..., None], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(_: EntryPoint) -> object:
        raise ModuleNotFoundError("No module named 'asyncpg'", name="asyncpg")

    commands(serve="agent_runtime_server.commands.serve:serve")
    monkeypatch.setattr(EntryPoint, "load", load)
    assert cli.run(["serve"]) == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "pip install 'agent-runtime[server,embedded]'" in told
    assert cli.run(["--help"]) == 0
    assert "asyncpg is missing" in " ".join(capsys.readouterr().out.replace("│", " ").split())


def test_an_unknown_command_or_option_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["bogus"]) == 2
    assert cli.run(["sessions", "--bogus"]) == 2
    assert cli.run(["health", "--bogus"]) == 1
    assert capsys.readouterr().err.count("\n") == 3


@pytest.mark.parametrize(
    "name", ["chat", "review", "sessions", "events", "fork", "health", "keys", "run", "demo", "usage"]
)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([name, "--help"]) == 0
    assert f"agent-runtime {name}" in capsys.readouterr().out


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--version"]) == 0
    assert capsys.readouterr().out.strip()[0].isdigit()


@pytest.mark.parametrize(
    "argv",
    [
        ["chat", "hi", "--target", "nonsense"],
        ["chat", "hi", "--workspace", "/does/not/exist"],
        ["chat", "hi", "--yes", "--approve", "none"],
        ["usage", "--session", "s1", "--from", "2026-01-31"],
        ["review", "a", "--approve", "--reject"],
        ["review", "--comment", "x"],
        ["run", "hi", "--workspace", "/does/not/exist"],
    ],
)
def test_bad_input_is_one_clear_line(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(argv) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"agent-runtime {argv[0]}: ")
    assert told.count("\n") == 1


@pytest.mark.parametrize("argv", [["chat", "hi"], ["sessions"], ["review", "--list"], ["events", "x"]])
def test_an_unreachable_server_says_what_to_do(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([*argv, "--target", "127.0.0.1:1"]) == 1
    told = capsys.readouterr().err
    assert "start one with `agent-runtime serve`" in told
    assert told.count("\n") == 1


def test_a_server_says_how_grpc_reads_before_grpc_is_imported() -> None:
    program = """
import os, sys
class Teller:
    def find_spec(self, name, *_):
        if name == "grpc":
            print(os.environ.get("GRPC_EXPERIMENTS", "nothing"))
            sys.exit()
sys.meta_path.insert(0, Teller())
import agent_runtime_cli
agent_runtime_cli.run(["serve", "--help"])
"""
    unsaid = {key: value for key, value in os.environ.items() if key != "GRPC_EXPERIMENTS"}
    told = subprocess.run([sys.executable, "-c", program], env=unsaid, capture_output=True, text=True, check=True)
    assert told.stdout.splitlines() == ["-event_engine_listener"]
