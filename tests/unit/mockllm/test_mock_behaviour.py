"""The built-in behaviour of the mock model, played against an agent team of its own and a real folder."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from importlib.resources import as_file, files
from pathlib import Path

import pytest

from agent_runtime_server.mockllm.behaviour import behave
from agent_runtime_server.mockllm.play import Answer, Call
from agent_runtime_server.mockllm.seen import read_request

READ = {"read_file", "list_files", "search_in_code", "switch_agent", "attempt_completion"}
TOOLS = {"debug": READ | {"execute_command"}, "ask": READ}
TOOLS["coder"] = TOOLS["debug"] | {"write_file", "create_directory"}
Run = Callable[[str, Mapping[str, object]], str]


class Team:
    """Agents in turn on one transcript, until one of them says something without a call."""

    def __init__(self, agent: str, run: Run) -> None:
        self.agent = agent
        self.run = run
        self.messages: list[dict[str, object]] = []
        self.trace: list[list[str]] = []

    def asked(self, text: str) -> str:
        self.messages.append({"role": "user", "content": text})
        for _ in range(12):
            answer = self.step()
            self.trace.append([call.name for call in answer.tool_calls])
            if not answer.tool_calls:
                return answer.text
            if answer.tool_calls[0].name == "attempt_completion":
                return str(self.arguments(answer.tool_calls[0])["result"])
            self.carry_out(answer)
        raise AssertionError("it went on and on")

    def step(self) -> Answer:
        system = {"role": "system", "content": f"You are the {self.agent} agent of a team."}
        tools = [{"type": "function", "function": {"name": name}} for name in TOOLS[self.agent]]
        return behave(read_request({"model": "m", "messages": [system, *self.messages], "tools": tools}))

    def carry_out(self, answer: Answer) -> None:
        calls = [(f"c{len(self.messages)}-{place}", call) for place, call in enumerate(answer.tool_calls)]
        functions = [
            {"id": call_id, "function": {"name": call.name, "arguments": json.dumps(call.arguments)}}
            for call_id, call in calls
        ]
        self.messages.append({"role": "assistant", "content": answer.text, "tool_calls": functions})
        for call_id, call in calls:
            self.messages.append({"role": "tool", "tool_call_id": call_id, "content": self.result(call)})

    def result(self, call: Call) -> str:
        if call.name == "switch_agent":
            self.agent = str(self.arguments(call)["agent"])
            return f"Switched to {self.agent}."
        return self.run(call.name, self.arguments(call))

    @staticmethod
    def arguments(call: Call) -> Mapping[str, object]:
        assert not isinstance(call.arguments, str)
        return call.arguments


def in_folder(folder: Path) -> Run:
    def run(name: str, arguments: Mapping[str, object]) -> str:
        path = folder / str(arguments.get("path", "."))
        match name:
            case "list_files":
                return "\n".join(sorted(entry.name for entry in path.iterdir()))
            case "read_file":
                return path.read_text("utf-8")
            case "write_file":
                path.write_text(str(arguments["content"]), "utf-8")
                return f"wrote {path.name}"
            case "execute_command":
                command = str(arguments["command"]).replace("python3", sys.executable)
                done = subprocess.run(command.split(), cwd=folder, capture_output=True, text=True)
                failed = "The call failed.\n" if done.returncode else ""
                return f"{failed}exit code: {done.returncode}\n{done.stdout}{done.stderr}"
        raise AssertionError(name)

    return run


@pytest.fixture
def project(tmp_path: Path) -> Path:
    with as_file(files("agent_runtime_client") / "example") as example:
        shutil.copytree(example, tmp_path / "project", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "project"


def test_the_demo_finds_the_cause_hands_over_repairs_it_and_sees_the_tests_pass(project: Path) -> None:
    team = Team("debug", in_folder(project))
    before = (project / "slugs.py").read_text()
    said = team.asked("the tests fail, find out why and fix it")
    assert team.trace == [
        ["list_files", "execute_command"],
        ["read_file", "read_file"],
        ["switch_agent"],
        ["write_file"],
        ["execute_command"],
        ["attempt_completion"],
    ]
    assert re.search(r"corrected slugs\.py; the tests pass: OK", said)
    after = (project / "slugs.py").read_text()
    changed = [pair for pair in zip(before.splitlines(), after.splitlines(), strict=True) if pair[0] != pair[1]]
    assert changed == [
        ('    hyphenated = re.sub(r"[^a-z0-9]", "-", title.lower())',
         '    hyphenated = re.sub(r"[^a-z0-9]+", "-", title.lower())'),
    ]  # fmt: skip


def test_a_coder_asked_directly_does_the_same_alone(project: Path) -> None:
    team = Team("coder", in_folder(project))
    assert "the tests pass" in team.asked("Fix the failing tests please")
    assert ["switch_agent"] not in team.trace


def test_once_the_tests_pass_there_is_nothing_to_repair(project: Path) -> None:
    Team("coder", in_folder(project)).asked("fix the failing tests")
    assert "nothing to repair" in Team("debug", in_folder(project)).asked("the tests fail, find out why")


REFUSALS = [
    "The call was refused; it did not run.\nnot now",
    "The call was cancelled: it did not run, or was stopped before its end.",
    "The call did not finish in time; it may have had some of its effect.",
    "The outcome of the call is not known: it was started and may have had its effect.",
    "The call failed.\nno such file",
    "Error: rejected by the user",
]


@pytest.mark.parametrize("tool", ["execute_command", "list_files", "write_file"])
@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_call_that_was_not_carried_out_stops_the_repair(project: Path, tool: str, refusal: str) -> None:
    real = in_folder(project)
    team = Team("debug", lambda name, arguments: refusal if name == tool else real(name, arguments))
    said = team.asked("the tests fail, find out why and fix it")
    assert f"{tool} was not carried out, so I stop here" in said
    assert refusal.splitlines()[0] in said


def test_code_without_a_slip_it_knows_leaves_it_at_a_loss(project: Path) -> None:
    (project / "slugs.py").write_text("raise ValueError\n")
    assert "none of them" in Team("debug", in_folder(project)).asked("the tests fail, find out why")


def test_files_read_with_line_numbers_are_written_back_without(project: Path) -> None:
    real = in_folder(project)

    def numbered(name: str, arguments: Mapping[str, object]) -> str:
        text = real(name, arguments)
        lines = enumerate(text.splitlines(keepends=True), 1)
        return "".join(f"{number:>4} | {line}" for number, line in lines) if name == "read_file" else text

    assert "the tests pass" in Team("coder", numbered).asked("fix the failing tests")


@pytest.mark.parametrize(
    ("text", "call"),
    [
        ("read slugs.py", Call("read_file", {"path": "slugs.py"})),
        ("Please show me the file `a b.py`", None),
        ("find slugify", Call("search_in_code", {"query": "slugify"})),
        ("search for 'page address' in the code", Call("search_in_code", {"query": "page address"})),
        ("list", Call("list_files", {"path": "."})),
        ("list the files in src", Call("list_files", {"path": "src"})),
        ("create folder docs", Call("create_directory", {"path": "docs"})),
        ("create a file notes.txt with buy milk", Call("write_file", {"path": "notes.txt", "content": "buy milk\n"})),
        ("create file empty.txt", Call("write_file", {"path": "empty.txt", "content": ""})),
        ('create file a/x.py with x = "a"',
         Call("write_file", {"path": "a/x.py", "content": 'x = "a"\n', "create_dirs": True})),
        ("write notes.txt: one\ntwo", Call("write_file", {"path": "notes.txt", "content": "one\ntwo\n"})),
        ("run `ls -l`", Call("execute_command", {"command": "ls -l"})),
        ("run the tests", Call("execute_command", {"command": "python3 -m unittest -q"})),
        ("good morning", None),
    ],
)  # fmt: skip
def test_small_requests_become_calls(text: str, call: Call | None) -> None:
    team = Team("coder", lambda *_: "")
    team.messages.append({"role": "user", "content": text})
    assert team.step().tool_calls == ((call,) if call else ())


def test_a_result_is_told_and_a_refusal_too() -> None:
    assert "exit code 3" in Team("coder", lambda *_: "exit code: 3\nboom").asked("run make")
    assert "notes.txt is written" in Team("coder", lambda *_: "ok").asked("create file notes.txt with x")
    assert "was not carried out" in Team("coder", lambda *_: REFUSALS[0]).asked("create file notes.txt with x")


def test_what_an_agent_may_not_do_is_handed_to_the_coder() -> None:
    team = Team("ask", lambda *_: "written")
    assert "is written" in team.asked("create file notes.txt with x")
    assert team.trace == [["switch_agent"], ["write_file"], []]


@pytest.mark.parametrize(
    ("text", "agent"),
    [
        ("the tests fail, find out why and fix it", "debug"),
        ("TypeError: unsupported operand", "debug"),
        ("create a file notes.txt with buy milk", "coder"),
        ("run the tests", "coder"),
        ("please add error handling to slugs.py", "coder"),
        ("fix the typo in the readme", "coder"),
        ("design a cache for the reader", "architect"),
        ("explain what slugify does", "ask"),
        ("read slugs.py", "ask"),
        ("what is a slug?", "ask"),
        ("hello", "ask"),
    ],
)
def test_a_routing_request_gets_an_agent_as_json(text: str, agent: str) -> None:
    system = "Choose an agent: coder, architect, debug, ask. Answer as JSON {agent, confidence, reasoning}."
    messages = [{"role": "system", "content": system}, {"role": "user", "content": text}]
    choice = json.loads(behave(read_request({"model": "m", "messages": messages})).text)
    assert choice["agent"] == agent
    assert set(choice) == {"agent", "confidence", "reasoning"}
