"""What people type, and what it means."""

import pytest

from agent_runtime import v1
from agent_runtime_client.terminal.answers import Reply, reply_to
from agent_runtime_client.terminal.connect import checked_target
from agent_runtime_client.terminal.failures import CommandFailed
from agent_runtime_client.terminal.prompt import Interrupts
from agent_runtime_client.terminal.slash import BadSlash, Slash, parse_slash

QUESTION = v1.Question(
    options=[v1.QuestionOption(option_id="x", label="calc.py"), v1.QuestionOption(option_id="y", label="other.py")]
)


def test_a_number_picks_the_option() -> None:
    assert reply_to(QUESTION, " 2 ") == Reply("other.py", ("y",))


@pytest.mark.parametrize("typed", ["3", "0", "calc.py please", "²"])
def test_anything_else_is_free_text(typed: str) -> None:
    assert reply_to(QUESTION, typed) == Reply(typed)


def test_commands_begin_with_a_slash() -> None:
    assert parse_slash("/agent coder") == Slash("agent", "coder")
    assert parse_slash("/exit") == Slash("quit")
    assert parse_slash("fix /etc") is None


def test_a_path_is_something_to_say() -> None:
    assert parse_slash("/etc/hosts is wrong") is None
    assert parse_slash("//agent is a word") is None


@pytest.mark.parametrize(
    ("typed", "told"), [("/agent", "needs a name"), ("/foo", "no /foo"), ("/quit now", "nothing more")]
)
def test_a_wrong_command_says_what_is_wrong(typed: str, told: str) -> None:
    with pytest.raises(BadSlash, match=told):
        parse_slash(typed)


def test_ctrl_c_cancels_first_and_leaves_when_pressed_twice() -> None:
    interrupts = Interrupts()
    assert not interrupts.leaves(10.0, busy=True)
    assert interrupts.leaves(11.5, busy=True)


def test_ctrl_c_after_a_while_cancels_again() -> None:
    interrupts = Interrupts()
    assert not interrupts.leaves(10.0, busy=True)
    assert not interrupts.leaves(13.0, busy=True)


def test_ctrl_c_with_nothing_running_leaves() -> None:
    assert Interrupts().leaves(10.0, busy=False)


@pytest.mark.parametrize("target", ["127.0.0.1:50051", "localhost:1", "[::1]:50051", "unix:/tmp/x", "dns:///host:1"])
def test_targets_that_can_be_dialled(target: str) -> None:
    assert checked_target(target) == target


@pytest.mark.parametrize(
    "target", ["", "host", "host:", "host:99999", "host:0", "http://host:1", "a b:1", "x\x1b[2J:1"]
)
def test_targets_that_cannot(target: str) -> None:
    with pytest.raises(CommandFailed, match="HOST:PORT"):
        checked_target(target)
