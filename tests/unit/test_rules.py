"""The table of rules says exactly what the comments of the protos say."""

import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
from google.protobuf.message import Message

from agent_runtime import v1
from agent_runtime_server.rpc.cross_rules import CROSS_RULES
from agent_runtime_server.rpc.rules import RULES, Rule

PROTOS = sorted((Path(__file__).parents[2] / "proto" / "agent_runtime" / "v1").glob("*.proto"))
BEYOND = ("identifier", "json_object", "not_negative", "pair_max_bytes")

PHRASES = {
    "required": {"required": True},
    "defined values only": {"defined": True},
    "not UNSPECIFIED": {"specified": True},
    "a UUID": {"uuid": True},
    "may be empty": {},
}

RULES_WITHOUT_COMMENT = {
    "ListAgentsRequest": {"page_token"},
    "ListApprovalsRequest": {"page_token"},
    "ListAuditRecordsRequest": {"page_token"},
    "ListSessionsRequest": {"labels", "page_token"},
    "Session": {"session_id", "title", "labels"},
    "ToolSpec": {"timeout"},
}
"""Fields that only the design's further rules speak of."""


def parse_rule(text: str) -> Rule:
    rule: dict[str, object] = {}
    pattern = re.search(r'pattern "(.*)"', text)
    if pattern:
        rule["pattern"] = pattern[1]
        text = text.replace(pattern[0], "")
    for phrase in filter(None, (part.strip() for part in text.strip().rstrip(".").split(","))):
        name, _, number = phrase.partition(" ")
        rule |= PHRASES[phrase] if phrase in PHRASES else {name: int(number)}
    return Rule(**rule)  # type: ignore[arg-type]


def documented_rules(proto: str) -> Iterator[tuple[str, str, Rule]]:
    """Yield message, field and rule of every `Rules:` comment."""
    scope: list[tuple[str, str]] = []
    pending = None
    for line in map(str.strip, proto.splitlines()):
        if opened := re.match(r"(message|enum|oneof|service) (\w+) \{", line):
            scope += [] if line.endswith("}") else [(opened[1], opened[2])]
        elif line == "}":
            scope.pop()
        elif comment := re.match(r"// Rules: (.*)", line):
            pending = parse_rule(comment[1])
        elif (field := re.match(r"(?:repeated |optional )?[\w.]+(?:<.*>)? (\w+) = \d+;", line)) and pending:
            yield ".".join(name for kind, name in scope if kind == "message"), field[1], pending
            pending = None


DOCUMENTED = {
    (message, field): rule for proto in PROTOS for message, field, rule in documented_rules(proto.read_text())
}


def without_beyond(rule: Rule) -> Rule:
    kept = {f.name: getattr(rule, f.name) for f in fields(Rule) if f.name not in BEYOND}
    return Rule(**kept)


def messages() -> dict[str, type[Message]]:
    classes = [value for value in vars(v1).values() if isinstance(value, type) and issubclass(value, Message)]
    return {found.__name__: found for found in classes}


def test_the_comments_were_found() -> None:
    count = sum(proto.read_text().count("// Rules:") for proto in PROTOS)
    assert len(DOCUMENTED) == count > 100


@pytest.mark.parametrize(("message", "field"), sorted(DOCUMENTED))
def test_every_documented_rule_is_in_the_table(message: str, field: str) -> None:
    assert without_beyond(RULES[message][field]) == DOCUMENTED[message, field]


def test_the_table_has_no_other_rules() -> None:
    others: dict[str, set[str]] = {}
    for message, rules in RULES.items():
        for field in rules:
            if (message, field) not in DOCUMENTED:
                others.setdefault(message, set()).add(field)
    assert others == RULES_WITHOUT_COMMENT


def test_every_row_names_a_field_of_the_contract() -> None:
    known = {(message, field.name) for message, found in messages().items() for field in found.DESCRIPTOR.fields}
    assert {(message, field) for message, rules in RULES.items() for field in rules} <= known
    assert set(CROSS_RULES) <= set(messages())


def test_every_id_that_must_be_set_has_the_alphabet_of_ids() -> None:
    ids = {
        (message, field)
        for (message, field), rule in DOCUMENTED.items()
        if rule == Rule(min_len=1, max_len=64) and field != "tool_name"
    }
    assert ids
    assert all(RULES[message][field].identifier for message, field in ids)
