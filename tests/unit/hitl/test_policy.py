from collections.abc import Mapping

import pytest

from agent_runtime import v1
from agent_runtime_server.hitl.policy import Ruling, judge
from agent_runtime_server.tools import catalogue


class Anything:
    def allows(self, tool_name: str, arguments: Mapping[str, object], extra: bool) -> str | None:
        return None


class Nothing:
    def allows(self, tool_name: str, arguments: Mapping[str, object], extra: bool) -> str | None:
        return f"{tool_name} is not for you"


@pytest.mark.parametrize(
    ("name", "ruling"),
    [
        ("read_file", Ruling.ALLOW),
        ("list_files", Ruling.ALLOW),
        ("search_in_code", Ruling.ALLOW),
        ("write_file", Ruling.ASK),
        ("create_directory", Ruling.ASK),
        ("execute_command", Ruling.ASK),
    ],
)
def test_reading_runs_at_once_and_the_rest_asks(name: str, ruling: Ruling) -> None:
    verdict = judge(Anything(), catalogue.STANDARD[name], {}, standard=True)
    assert verdict.ruling is ruling
    assert verdict.risk == catalogue.STANDARD[name].risk
    assert verdict.rules


@pytest.mark.parametrize("name", catalogue.STANDARD)
def test_what_the_agent_may_not_do_is_refused_whatever_else_holds(name: str) -> None:
    verdict = judge(Nothing(), catalogue.STANDARD[name], {}, standard=True)
    assert verdict.ruling is Ruling.DENY
    assert verdict.reason == f"{name} is not for you"


@pytest.mark.parametrize("effect", v1.ToolEffect.values())
def test_tools_of_the_client_always_ask(effect: "v1.ToolEffect.ValueType") -> None:
    spec = v1.ToolSpec(name="jira", effect=effect, risk=v1.RISK_LEVEL_LOW)
    assert judge(Anything(), spec, {}, standard=False).ruling is Ruling.ASK


def test_a_standard_tool_of_unknown_effect_asks() -> None:
    assert judge(Anything(), v1.ToolSpec(name="new"), {}, standard=True).ruling is Ruling.ASK


@pytest.mark.parametrize(
    ("effect", "claimed", "risk"),
    [
        (v1.TOOL_EFFECT_READ, v1.RISK_LEVEL_LOW, v1.RISK_LEVEL_LOW),
        (v1.TOOL_EFFECT_READ, v1.RISK_LEVEL_UNSPECIFIED, v1.RISK_LEVEL_HIGH),
        (v1.TOOL_EFFECT_WRITE, v1.RISK_LEVEL_LOW, v1.RISK_LEVEL_MEDIUM),
        (v1.TOOL_EFFECT_WRITE, v1.RISK_LEVEL_HIGH, v1.RISK_LEVEL_HIGH),
        (v1.TOOL_EFFECT_EXECUTE, v1.RISK_LEVEL_LOW, v1.RISK_LEVEL_HIGH),
        (v1.TOOL_EFFECT_UNSPECIFIED, v1.RISK_LEVEL_LOW, v1.RISK_LEVEL_HIGH),
    ],
)
def test_policy_only_raises_the_risk_a_client_claims(
    effect: "v1.ToolEffect.ValueType", claimed: "v1.RiskLevel.ValueType", risk: "v1.RiskLevel.ValueType"
) -> None:
    spec = v1.ToolSpec(name="jira", effect=effect, risk=claimed)
    assert judge(Anything(), spec, {}, standard=False).risk == risk
