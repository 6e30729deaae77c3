"""What follows for a dispatched call from the log and the journal."""

import pytest

from agent_runtime import v1
from agent_runtime_client.ledger import Fate, Ledger
from agent_runtime_client.records import Entry
from clientkit.events import call, cancel_requested, completed, dispatched, event, started

RESULT = Entry("start", "result", v1.ToolResult(call_id="c1"))
STARTED = Entry("start")
MINE, OTHER = started(2, "c1", "me"), started(2, "c1", "other")
CANCEL = cancel_requested(3)


@pytest.mark.parametrize(
    ("later", "entry", "fate", "fate_when_repeatable"),
    [
        ([], None, Fate.RUN, Fate.RUN),
        ([CANCEL], None, Fate.LEAVE, Fate.LEAVE),
        ([OTHER], None, Fate.LEAVE, Fate.RUN_AGAIN),
        ([MINE], None, Fate.CONFESS, Fate.RUN_AGAIN),
        ([], STARTED, Fate.CONFESS, Fate.RUN_AGAIN),
        ([MINE], STARTED, Fate.CONFESS, Fate.RUN_AGAIN),
        ([MINE, CANCEL], STARTED, Fate.CONFESS, Fate.CONFESS),
        ([OTHER], STARTED, Fate.LEAVE, Fate.RUN_AGAIN),
        ([OTHER, CANCEL], None, Fate.LEAVE, Fate.LEAVE),
        ([], RESULT, Fate.RESEND, Fate.RESEND),
        ([MINE, CANCEL], RESULT, Fate.RESEND, Fate.RESEND),
        ([OTHER], RESULT, Fate.RESEND, Fate.RESEND),
    ],
)
def test_fate(later: list[v1.SessionEvent], entry: Entry | None, fate: Fate, fate_when_repeatable: Fate) -> None:
    ledger = Ledger("me")
    for one in [dispatched(1, call("c1")), *later]:
        ledger.on_event(one)
    (open_call,) = ledger.due()
    assert ledger.fate(open_call, entry, lambda _: False) is fate
    assert ledger.fate(open_call, entry, lambda _: True) is fate_when_repeatable


def test_a_call_is_due_once() -> None:
    ledger = Ledger("me")
    ledger.on_event(dispatched(1, call("c1")))
    ledger.on_event(dispatched(1, call("c1")))
    assert [due.call.call_id for due in ledger.due()] == ["c1"]
    assert ledger.due() == []


@pytest.mark.parametrize(
    "end", [completed(2, "c1"), event(2, turn_finished=v1.TurnFinished())], ids=["completed", "turn finished"]
)
def test_a_call_that_is_over_is_not_due(end: v1.SessionEvent) -> None:
    ledger = Ledger("me")
    ledger.on_event(dispatched(1, call("c1")))
    ledger.on_event(end)
    assert ledger.due() == []


def test_server_calls_are_none_of_ours() -> None:
    ledger, order = Ledger("me"), dispatched(1, call("c1"))
    order.tool_call_dispatched.tool_call.executor = v1.TOOL_EXECUTOR_SERVER
    ledger.on_event(order)
    assert ledger.due() == []
