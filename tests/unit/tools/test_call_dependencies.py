import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_runtime import v1
from agent_runtime_server.tools.dependencies import dependencies

Call = tuple[str, dict[str, object]]


def waits(*calls: Call, effect: "v1.ToolEffect.ValueType" = v1.TOOL_EFFECT_UNSPECIFIED) -> list[list[str]]:
    return dependencies(
        [
            (v1.ToolCall(call_id=str(number), tool_name=name, effect=effect), arguments)
            for number, (name, arguments) in enumerate(calls)
        ]
    )


def read(path: str) -> Call:
    return "read_file", {"path": path}


def write(path: str) -> Call:
    return "write_file", {"path": path, "content": ""}


LIST: Call = ("list_files", {})
COMMAND: Call = ("execute_command", {"command": "ls"})
SWITCH: Call = ("switch_agent", {"agent": "coder"})


def test_reads_never_wait_for_reads() -> None:
    search: Call = ("search_in_code", {"query": "x"})
    assert waits(read("a"), read("a"), LIST, search) == [[], [], [], []]


@pytest.mark.parametrize("other", ["a/b", "./a/b", "a//b", "a/c/../b", "A/B", "a/b/"])
def test_a_write_and_a_read_of_one_path_go_in_order(other: str) -> None:
    assert waits(write("a/b"), read(other)) == [[], ["0"]]
    assert waits(read(other), write("a/b")) == [[], ["0"]]


def test_writes_of_different_files_run_side_by_side() -> None:
    assert waits(write("a/b"), write("a/c"), read("a/bb")) == [[], [], []]


def test_a_directory_and_what_is_in_it_conflict() -> None:
    assert waits(("create_directory", {"path": "a"}), write("a/b"), ("list_files", {"path": "a"})) == [
        [],
        ["0"],
        ["0", "1"],
    ]


def test_a_listing_of_everything_waits_for_every_write() -> None:
    assert waits(write("a"), write("b"), LIST) == [[], [], ["0", "1"]]


@pytest.mark.parametrize("path", ["/work/a", "../a", "a/../../a", "C:\\a", "dir\\a", "~/a"])
def test_a_path_that_may_lead_anywhere_conflicts_with_every_write(path: str) -> None:
    assert waits(write("b"), read(path)) == [[], ["0"]]


def test_a_command_waits_for_everything_and_everything_for_it() -> None:
    assert waits(read("a"), COMMAND, read("b"), COMMAND) == [[], ["0"], ["1"], ["0", "1", "2"]]


def test_server_tools_wait_for_nothing() -> None:
    assert waits(COMMAND, SWITCH, COMMAND) == [[], [], ["0"]]


def test_foreign_tools_are_barriers_unless_they_only_read() -> None:
    jira: Call = ("jira", {"path": "a"})
    assert waits(read("a"), jira, jira) == [[], ["0"], ["0", "1"]]
    assert waits(read("b"), jira, jira, effect=v1.TOOL_EFFECT_READ) == [[], [], []]
    assert waits(write("b"), jira, effect=v1.TOOL_EFFECT_READ) == [[], ["0"]]


def test_arguments_without_a_path_may_touch_anything() -> None:
    assert waits(read("a"), ("write_file", {})) == [[], ["0"]]
    assert waits(read("a"), ("write_file", {"path": 3})) == [[], ["0"]]


PATHS = st.lists(st.sampled_from(["a", "b", "A", "..", ".", ""]), max_size=4).map("/".join)
CALLS: st.SearchStrategy[list[Call]] = st.lists(
    st.tuples(
        st.sampled_from(
            ["read_file", "write_file", "list_files", "create_directory", "execute_command", "jira", "switch_agent"]
        ),
        st.fixed_dictionaries({"path": PATHS}),
    ),
    max_size=10,
)


@given(CALLS)
def test_only_earlier_calls_are_waited_for_and_the_order_is_stable(calls: list[Call]) -> None:
    found = waits(*calls)
    assert found == waits(*calls)
    for number, ids in enumerate(found):
        assert ids == sorted(set(ids), key=int)
        assert all(int(call_id) < number for call_id in ids)


@given(CALLS.filter(lambda calls: len(calls) >= 2))
def test_conflicts_are_symmetric_and_those_of_a_pair_alone(calls: list[Call]) -> None:
    found = waits(*calls)
    for later in range(len(calls)):
        for earlier in range(later):
            pair = waits(calls[earlier], calls[later])[1]
            assert pair == waits(calls[later], calls[earlier])[1]
            assert bool(pair) == (str(earlier) in found[later])
