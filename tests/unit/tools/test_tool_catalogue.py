import json
from datetime import timedelta

import pytest

from agent_runtime import v1
from agent_runtime_server.tools import arguments, catalogue

ALL = {**catalogue.STANDARD, **catalogue.SERVER}


def test_the_standard_tools_are_the_six_every_client_knows() -> None:
    assert set(catalogue.STANDARD) == {
        "read_file",
        "write_file",
        "list_files",
        "create_directory",
        "search_in_code",
        "execute_command",
    }
    assert set(catalogue.SERVER) == {"switch_agent", "ask_followup_question", "attempt_completion"}


@pytest.mark.parametrize("name", ALL)
def test_every_schema_is_closed_and_compiles(name: str) -> None:
    spec = ALL[name]
    assert spec.name == name
    assert len(spec.description) > 20
    assert arguments.check_schema(spec.input_schema_json) is None
    assert json.loads(spec.input_schema_json)["additionalProperties"] is False


@pytest.mark.parametrize(
    ("name", "effect", "risk", "idempotent"),
    [
        ("read_file", v1.TOOL_EFFECT_READ, v1.RISK_LEVEL_LOW, True),
        ("list_files", v1.TOOL_EFFECT_READ, v1.RISK_LEVEL_LOW, True),
        ("search_in_code", v1.TOOL_EFFECT_READ, v1.RISK_LEVEL_LOW, True),
        ("write_file", v1.TOOL_EFFECT_WRITE, v1.RISK_LEVEL_MEDIUM, False),
        ("create_directory", v1.TOOL_EFFECT_WRITE, v1.RISK_LEVEL_MEDIUM, False),
        ("execute_command", v1.TOOL_EFFECT_EXECUTE, v1.RISK_LEVEL_HIGH, False),
    ],
)
def test_effect_and_risk(
    name: str, effect: "v1.ToolEffect.ValueType", risk: "v1.RiskLevel.ValueType", idempotent: bool
) -> None:
    spec = catalogue.STANDARD[name]
    assert (spec.effect, spec.risk, spec.idempotent) == (effect, risk, idempotent)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("read_file", {"path": "a", "encoding": "utf-8", "start_line": 1, "end_line": 2}),
        ("write_file", {"path": "a", "content": "", "encoding": "utf-8", "create_dirs": True, "backup": False}),
        ("list_files", {"path": "a", "recursive": True, "include_hidden": True, "pattern": "*.py"}),
        ("list_files", {}),
        ("create_directory", {"path": "a", "recursive": False}),
        ("execute_command", {"command": "ls", "cwd": ".", "timeout": 300, "shell": True}),
        (
            "search_in_code",
            {
                "query": "a",
                "path": ".",
                "file_pattern": "*",
                "case_sensitive": True,
                "regex": True,
                "max_results": 1000,
            },
        ),
        ("switch_agent", {"agent": "coder", "reason": "code"}),
        ("ask_followup_question", {"question": "which?", "options": ["a", "b"]}),
        ("attempt_completion", {"result": "done"}),
    ],
)
def test_arguments_that_are_taken(name: str, given: dict[str, object]) -> None:
    assert arguments.check(ALL[name], json.dumps(given)) is None


@pytest.mark.parametrize(
    ("name", "given", "field"),
    [
        ("read_file", {}, '"path" is a required property'),
        ("read_file", {"path": ""}, "path"),
        ("read_file", {"path": "a", "start_line": 0}, "start_line"),
        ("read_file", {"path": "a", "line": 1}, "'line'"),
        ("write_file", {"path": "a"}, '"content" is a required property'),
        ("execute_command", {"command": "ls", "timeout": 301}, "timeout"),
        ("search_in_code", {"query": "a", "max_results": 1001}, "max_results"),
        ("ask_followup_question", {"question": "q", "options": [str(n) for n in range(9)]}, "options"),
    ],
)
def test_arguments_that_are_refused_name_the_field(name: str, given: dict[str, object], field: str) -> None:
    error = arguments.check(ALL[name], json.dumps(given))
    assert error is not None
    assert field in error


def test_switch_agent_takes_only_the_agents_named() -> None:
    spec = catalogue.switch_agent(("coder", "ask"))
    assert arguments.check(spec, '{"agent": "coder"}') is None
    error = arguments.check(spec, '{"agent": "pirate"}')
    assert error is not None
    assert '"coder" or "ask"' in error


def test_a_standard_name_means_the_servers_own_spec() -> None:
    lie = v1.ToolSpec(name="execute_command", risk=v1.RISK_LEVEL_LOW, effect=v1.TOOL_EFFECT_READ)
    assert catalogue.offered([lie])["execute_command"] == catalogue.STANDARD["execute_command"]


def test_other_names_are_the_clients_and_server_tools_cannot_be_overridden() -> None:
    extra = v1.ToolSpec(name="jira", description="tickets")
    forged = v1.ToolSpec(name="switch_agent", description="mine now")
    assert catalogue.offered([extra, forged]) == {"jira": extra}


@pytest.mark.parametrize(
    ("arguments_json", "seconds"),
    [
        ('{"command": "ls", "timeout": 5}', 5),
        ('{"command": "ls"}', 300),
        ('{"command": "ls", "timeout": 999}', 300),
        ('{"command": "ls", "timeout": true}', 300),
        ('{"command": "ls", "timeout": -1}', 300),
        ('{"command": "ls", "timeout": 1e999}', 300),
        ("not json", 300),
        ("[]", 300),
    ],
)
def test_a_commands_own_timeout_counts(arguments_json: str, seconds: int) -> None:
    spec = catalogue.STANDARD["execute_command"]
    assert catalogue.call_timeout(spec, arguments_json) == timedelta(seconds=seconds)


def test_other_tools_have_the_timeout_of_their_spec() -> None:
    extra = v1.ToolSpec(name="jira")
    assert catalogue.call_timeout(extra, '{"timeout": 5}') is None
    extra.timeout.FromSeconds(7)
    assert catalogue.call_timeout(extra, '{"timeout": 5}') == timedelta(seconds=7)
