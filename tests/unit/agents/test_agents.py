import json

import pytest

from agent_runtime import v1
from agent_runtime_server.agents.definition import Agent
from agent_runtime_server.agents.registry import Registry, builtin
from agent_runtime_server.agents.step import offered_to
from agent_runtime_server.core.errors import CallerError
from agent_runtime_server.hitl.policy import Ruling, judge
from agent_runtime_server.tools import arguments, catalogue

READ_ONLY = {"read_file", "list_files", "search_in_code"}
SERVER = {"switch_agent", "ask_followup_question", "attempt_completion"}
EXTRA = v1.ToolSpec(name="jira", description="tickets", effect=v1.TOOL_EFFECT_READ)
DECLARED = [*catalogue.STANDARD.values(), EXTRA]
AGENTS = builtin()


@pytest.mark.parametrize(
    ("agent_id", "tools"),
    [
        ("orchestrator", READ_ONLY),
        ("ask", READ_ONLY),
        ("architect", READ_ONLY | {"write_file"}),
        ("debug", READ_ONLY | {"execute_command"}),
        ("coder", READ_ONLY | {"write_file", "create_directory", "execute_command", "jira"}),
    ],
)
def test_each_agent_is_offered_its_tools_and_the_servers(agent_id: str, tools: set[str]) -> None:
    assert set(offered_to(AGENTS.get(agent_id), DECLARED)) == tools | SERVER


@pytest.mark.parametrize("agent", AGENTS.all(), ids=lambda agent: agent.agent_id)
def test_tools_that_the_client_does_not_declare_are_not_offered(agent: Agent) -> None:
    assert set(offered_to(agent, [])) == SERVER
    assert set(offered_to(agent, [v1.ToolSpec(name="read_file")])) == {"read_file"} | SERVER


def test_switch_agent_is_offered_with_the_agents_there_are() -> None:
    spec = offered_to(AGENTS.get("coder"), [])["switch_agent"]
    assert arguments.check(spec, '{"agent": "debug", "reason": "a cause is needed"}') is None
    assert arguments.check(spec, '{"agent": "coder"}') is not None


def test_an_agent_that_hands_over_to_nobody_has_no_switch() -> None:
    loner = Agent("loner", "Loner", "Alone.", "Work.", tools=("switch_agent", "attempt_completion"))
    assert set(offered_to(loner, [])) == {"attempt_completion"}


def test_an_agent_may_list_an_extra_tool_by_name() -> None:
    clerk = Agent("clerk", "Clerk", "Files tickets.", "File.", tools=("jira",))
    assert set(offered_to(clerk, [EXTRA, v1.ToolSpec(name="other")])) == {"jira"}


@pytest.mark.parametrize("path", ["README.md", "docs/A.MD", "./docs/../x.md", "docs/adr/0001-Choice.Md", "../x.md"])
def test_the_architect_writes_markdown(path: str) -> None:
    assert AGENTS.get("architect").allows("write_file", {"path": path}, False) is None


@pytest.mark.parametrize(
    "path",
    ["main.py", "x.md/../main.py", "md", "a.md.py", "a.md ", "a.py\0.md", "a.py\n.md", "docs.md/main", "", None, 3],
)
def test_the_architect_writes_nothing_else(path: object) -> None:
    refusal = AGENTS.get("architect").allows("write_file", {"path": path}, False)
    assert refusal == "The agent architect may only write files named *.md."


@pytest.mark.parametrize(
    ("agent_id", "tool", "ruling"),
    [
        ("coder", "write_file", Ruling.ASK),
        ("coder", "execute_command", Ruling.ASK),
        ("debug", "execute_command", Ruling.ASK),
        ("debug", "write_file", Ruling.DENY),
        ("architect", "execute_command", Ruling.DENY),
        ("architect", "create_directory", Ruling.DENY),
        ("ask", "read_file", Ruling.ALLOW),
        ("ask", "write_file", Ruling.DENY),
        ("orchestrator", "execute_command", Ruling.DENY),
    ],
)
def test_policy_on_what_agents_call(agent_id: str, tool: str, ruling: Ruling) -> None:
    verdict = judge(AGENTS.get(agent_id), catalogue.STANDARD[tool], {"path": "a.py"}, standard=True)
    assert verdict.ruling is ruling
    assert (tool in verdict.reason) is (ruling is Ruling.DENY)


def test_extra_tools_are_for_those_who_take_them() -> None:
    assert judge(AGENTS.get("coder"), EXTRA, {}, standard=False).ruling is Ruling.ASK
    assert judge(AGENTS.get("ask"), EXTRA, {}, standard=False).ruling is Ruling.DENY


def test_an_unknown_agent_is_refused_with_the_known_ones_named() -> None:
    assert AGENTS.find("pirate") is None
    with pytest.raises(CallerError, match="orchestrator, coder, architect, debug, ask") as caught:
        AGENTS.get("pirate")
    assert caught.value.reason == v1.ERROR_REASON_AGENT_NOT_FOUND


def test_two_agents_of_one_name_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="two agents"):
        Registry([AGENTS.get("ask"), AGENTS.get("ask")])


def test_the_catalogue_shows_each_agent() -> None:
    for agent in AGENTS.all():
        shown = agent.to_proto()
        assert shown.agent_id == agent.agent_id
        assert shown.revision == agent.revision
        assert len(agent.revision) == 16
        assert {spec.name for spec in shown.server_tools} == SERVER
        assert set(shown.handoff_agent_ids) == {other.agent_id for other in AGENTS.others(agent)}
        assert agent.agent_id not in shown.handoff_agent_ids


def test_the_revision_tells_definitions_apart() -> None:
    one = Agent("a", "A", "d", "p", tools=())
    assert one.revision == Agent("a", "A", "d", "p", tools=()).revision
    assert one.revision != Agent("a", "A", "d", "other", tools=()).revision


@pytest.mark.parametrize("agent", AGENTS.all(), ids=lambda agent: agent.agent_id)
def test_prompts_name_only_tools_the_agent_has(agent: Agent) -> None:
    everything = {**catalogue.STANDARD, **catalogue.SERVER}
    named = {name for name in everything if name in agent.prompt}
    assert named <= set(agent.tools)
    assert len(agent.prompt) < 6000
    assert json.dumps(agent.description)
