import json
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_runtime import v1
from agent_runtime_server.tools import arguments, catalogue

pytestmark = pytest.mark.timeout(30)  # what a bomb that is not defused takes by far

READ = catalogue.STANDARD["read_file"]
WRITE = catalogue.STANDARD["write_file"]


def tool(schema: object) -> v1.ToolSpec:
    return v1.ToolSpec(name="extra", input_schema_json=json.dumps(schema))


def error_of(spec: v1.ToolSpec, arguments_json: str) -> str:
    error = arguments.check(spec, arguments_json)
    assert error is not None
    assert len(error.encode()) <= 1200
    return error


def test_several_errors_are_listed() -> None:
    error = error_of(WRITE, '{"path": "", "create_dirs": 1}')
    assert "path: the value is shorter than 1 character (rule: minLength)" in error
    assert 'the arguments: "content" is a required property (rule: required)' in error
    assert 'create_dirs: the value is not of type "boolean" (rule: type)' in error


def test_what_was_given_is_not_repeated() -> None:
    assert "hunter2" not in error_of(READ, '{"path": ["hunter2"]}')


BOMBS: dict[str, Callable[[], str]] = {
    "empty": lambda: "",
    "not json": lambda: "path=a",
    "cut": lambda: '{"path": "a',
    "array": lambda: "[]",
    "null": lambda: "null",
    "text": lambda: '"a"',
    "NaN": lambda: '{"path": NaN}',
    "Infinity": lambda: '{"path": -Infinity}',
    "huge float": lambda: '{"path": 1e400}',
    "huge integer": lambda: '{"path": ' + "9" * 100_000 + "}",
    "large integer": lambda: '{"path": ' + "9" * 300 + "}",
    "duplicate key": lambda: '{"path": "a", "path": "b"}',
    "inner duplicate key": lambda: '{"path": {"a": 1, "a": 1}}',
    "long duplicate key": lambda: json.dumps({"path": 1})[:-1] + f', "{"k" * 5000}": 1, "{"k" * 5000}": 1}}',
    "lone surrogate": lambda: '{"path": "\\ud800"}',
    "raw lone surrogate": lambda: '{"path": "\ud800"}',
    "deep array": lambda: '{"path": ' + "[" * 400_000,
    "deep and closed": lambda: '{"path": ' + "[" * 900 + "]" * 900 + "}",
    "deep object": lambda: '{"a":' * 100_000 + "1" + "}" * 100_000,
    "too large": lambda: json.dumps({"path": "a" * (1 << 20)}),
    "many unknown keys": lambda: json.dumps({f"k{n}": n for n in range(50_000)}),
    "one long unknown key": lambda: json.dumps({"path": "a", "k" * 500_000: 1}),
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=list(BOMBS))
def test_foreign_text_gives_an_error_text_and_never_an_exception(bomb: Callable[[], str]) -> None:
    assert error_of(READ, bomb()).startswith("Invalid arguments for read_file")


def test_a_large_file_is_taken_at_once() -> None:
    content = json.dumps({"path": "a", "content": "x" * (1_000_000)})
    assert arguments.check(WRITE, content) is None


def test_many_wrong_items_stay_cheap() -> None:
    spec = tool({"type": "object", "properties": {"a": {"type": "array", "items": {"type": "string"}}}})
    assert "a[0]" in error_of(spec, json.dumps({"a": [1] * 40_000}))
    assert "too large or too complex" in error_of(spec, json.dumps({"a": [1] * 300_000}))


def doubling(levels: int) -> dict[str, object]:
    definitions: dict[str, object] = {
        f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}, {"$ref": f"#/$defs/d{n + 1}"}]} for n in range(levels)
    }
    definitions[f"d{levels}"] = {"type": "string"}
    return {"type": "object", "properties": {"a": {"$ref": "#/$defs/d0"}}, "$defs": definitions}


@pytest.mark.parametrize(
    "schema",
    [
        doubling(200),
        {"type": "object", "allOf": [{"$ref": "#"}, {"$ref": "#"}]},
        {"type": "object", "additionalProperties": {"allOf": [{"$ref": "#"}] * 40}},
    ],
)
def test_schemas_that_explode_are_given_up_early(schema: dict[str, object]) -> None:
    value: object = 1
    for _ in range(30):
        value = {"a": value}
    assert "too complex" in error_of(tool(schema), json.dumps(value))


def test_a_check_that_would_go_too_deep_is_given_up() -> None:
    schema: dict[str, object] = {"additionalProperties": {"$ref": "#"}}
    for _ in range(100):
        schema = {"allOf": [schema]}
    value: object = {}
    for _ in range(60):
        value = {"a": value}
    assert "too complex" in error_of(tool(schema), json.dumps(value))


def test_recursive_schemas_work() -> None:
    schema = {
        "type": "object",
        "properties": {"root": {"$ref": "#/$defs/node"}},
        "$defs": {
            "node": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
                },
                "required": ["name"],
            }
        },
    }
    tree = {"name": "a", "children": [{"name": "b", "children": []}, {"name": "c"}]}
    assert arguments.check(tool(schema), json.dumps({"root": tree})) is None
    assert "root.children[0]" in error_of(tool(schema), '{"root": {"name": "a", "children": [{}]}}')


@pytest.mark.parametrize("pattern", ["^(a+)+$", "^(a|a)*$", "(.*a){12}z$", "(x+x+)+y"])
def test_patterns_cannot_hang(pattern: str) -> None:
    spec = tool({"type": "object", "properties": {"a": {"type": "string", "pattern": pattern}}})
    assert arguments.check_schema(spec.input_schema_json) is None
    assert "a" in error_of(spec, json.dumps({"a": "a" * 100_000 + "!"}))


@pytest.mark.parametrize(
    "reference",
    ["http://127.0.0.1:9/schema.json", "https://example.org/x", "file:///etc/passwd", "other.json", "//host/x"],
)
def test_nothing_is_fetched(reference: str) -> None:
    schema = json.dumps({"type": "object", "properties": {"a": {"$ref": reference}}})
    assert "references inside of the schema" in (arguments.check_schema(schema) or "")


@pytest.mark.parametrize(
    "schema_json",
    [
        "not json",
        "[]",
        "true",
        '{"type": "string"}',
        '{"type": ["object", "null"]}',
        '{"type": "bogus"}',
        '{"type": "object", "properties": {"a": {"pattern": "(?=a)b"}}}',
        '{"type": "object", "properties": {"a": {"pattern": "(((a{1000}){1000}){1000})"}}}',
        '{"type": "object", "$schema": "http://127.0.0.1:9/mine"}',
        '{"type": "object", "properties": {"a": {"$id": "http://127.0.0.1:9/", "$ref": "#/b"}}}',
        '{"type": "object", "properties": {"a": {"$dynamicRef": "#x"}}}',
        '{"type": "object", "$ref": "#/$defs/missing"}',
        '{"type": "object", "properties": 3}',
        '{"not":' * 900 + "{}" + "}" * 900,
        '{"not":' * 7000 + "{}" + "}" * 7000,
        json.dumps({"type": "object", "description": "x" * 70_000}),
    ],
)
def test_schemas_that_are_refused(schema_json: str) -> None:
    error = arguments.check_schema(schema_json)
    assert error is not None
    assert len(error) < 1000


@pytest.mark.parametrize(
    "schema_json",
    [
        "",
        "{}",
        '{"type": "object"}',
        '{"$schema": "http://json-schema.org/draft-07/schema#", "type": "object", "$id": "https://example.org/t"}',
        '{"type": "object", "properties": {"id": {"type": "string"}, "$id": {"type": "string"}}}',
    ],
)
def test_schemas_that_are_taken(schema_json: str) -> None:
    assert arguments.check_schema(schema_json) is None
    assert arguments.check(v1.ToolSpec(name="t", input_schema_json=schema_json), "{}") is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)
KEYWORDS = st.sampled_from(
    ["type", "properties", "items", "allOf", "$ref", "pattern", "enum", "not", "$id", "required"]
)
SCHEMAS = st.dictionaries(KEYWORDS, JSON, max_size=5)


@settings(max_examples=150, deadline=None)
@given(schema=SCHEMAS | JSON, value=JSON | st.text())
def test_no_schema_and_no_value_raises(schema: object, value: object) -> None:
    schema_json = json.dumps(schema)
    arguments.check_schema(schema_json)
    arguments.check(v1.ToolSpec(name="t", input_schema_json=schema_json), json.dumps(value))


@settings(max_examples=100, deadline=None)
@given(st.text() | st.binary().map(lambda raw: raw.decode(errors="surrogateescape")))
def test_no_text_raises(text: str) -> None:
    arguments.check(READ, text)
    arguments.check_schema(text)
