"""The checker of the kill matrix, on records made by hand: what is well it passes, what is not it names."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from agent_runtime import v1
from killkit.checker import Story, check, check_reviewer
from killkit.records import Record, What

_SUCCEEDED = v1.ToolResult.STATUS_SUCCEEDED
_COMMAND = json.dumps({"command": "echo ran >> runs/a-one; true", "shell": True})
_CALL = v1.ToolCall(
    call_id="c1", tool_name="execute_command", arguments_json=_COMMAND, executor=v1.TOOL_EXECUTOR_CLIENT
)
_FRAMES = {5: "f1", 10: "h1", 12: "f2", 13: "f3"}


def _approval(state: "v1.ApprovalState.ValueType") -> v1.Approval:
    return v1.Approval(approval_id="ap1", tool_call=_CALL, state=state)


def _log() -> list[v1.SessionEvent]:
    """One turn: a command is asked for, approved, run, and reported."""
    result = v1.ToolResult(call_id="c1", status=_SUCCEEDED)
    events = [
        v1.SessionEvent(session_created=v1.SessionCreated(agent_id="coder")),
        v1.SessionEvent(executor_changed=v1.ExecutorChanged(client_id="me", epoch=1)),
        v1.SessionEvent(tools_updated=v1.ToolsUpdated()),
        v1.SessionEvent(agent_handoff=v1.AgentHandoff(to_agent_id="coder")),
        v1.SessionEvent(turn_id="t1", user_message=v1.UserMessage(parts=[v1.Part(text="go")])),
        v1.SessionEvent(turn_id="t1", turn_started=v1.TurnStarted(agent_id="coder")),
        v1.SessionEvent(turn_id="t1", assistant_message=v1.AssistantMessage(message_id="m1", agent_id="coder")),
        v1.SessionEvent(turn_id="t1", tool_call_proposed=v1.ToolCallProposed(tool_call=_CALL)),
        v1.SessionEvent(
            turn_id="t1", approval_requested=v1.ApprovalRequested(approval=_approval(v1.APPROVAL_STATE_PENDING))
        ),
        v1.SessionEvent(
            turn_id="t1", approval_resolved=v1.ApprovalResolved(approval=_approval(v1.APPROVAL_STATE_APPROVED))
        ),
        v1.SessionEvent(turn_id="t1", tool_call_dispatched=v1.ToolCallDispatched(tool_call=_CALL)),
        v1.SessionEvent(turn_id="t1", tool_call_started=v1.ToolCallStarted(call_id="c1", client_id="me")),
        v1.SessionEvent(turn_id="t1", tool_call_completed=v1.ToolCallCompleted(result=result)),
        v1.SessionEvent(turn_id="t1", assistant_message=v1.AssistantMessage(message_id="m2", agent_id="coder")),
        v1.SessionEvent(turn_id="t1", turn_finished=v1.TurnFinished(state=v1.TURN_STATE_COMPLETED)),
    ]
    for seq, event in enumerate(events, start=1):
        event.seq, event.frame_id = seq, _FRAMES.get(seq, "")
    return events


def _records(log: Sequence[v1.SessionEvent]) -> list[Record]:
    """What its client recorded: killed after event 7, and back behind event 6, the last it had applied."""
    shown = [
        Record(
            0, What.EVENT, seq=e.seq, frame_id=e.frame_id, key=e.turn_id, detail=e.WhichOneof("payload") or "", stream=1
        )
        for e in log
    ]
    applied = [Record(0, What.APPLIED, seq=event.seq) for event in log]
    sent = [
        Record(0, What.SENT, stream=1, frame_id="f2", key="c1", detail="tool_call_started"),
        Record(0, What.ACK, stream=1, seq=12, frame_id="f2", detail="ACCEPTED"),
        Record(0, What.SENT, stream=1, frame_id="f3", key="c1", detail="tool_result"),
        Record(0, What.ACK, stream=1, seq=13, frame_id="f3", detail="DUPLICATE"),
    ]
    return [
        Record(0, What.BORN),
        Record(0, What.HELLO, stream=1),
        *shown[:7],
        *applied[:6],
        Record(0, What.BORN, seq=6),
        Record(0, What.HELLO, stream=1, seq=6),
        *shown[6:],
        *applied[6:],
        *sent,
    ]


def story() -> Story:
    log = _log()
    return Story("s1", log, _records(log), runs={"c1": 1}, marks={"a-one": 1})


def rules(broken: Story) -> set[str]:
    return {violation.rule for violation in check(broken)}


def test_a_session_that_went_well_has_no_violation() -> None:
    assert check(story()) == []


def _without(seq: int) -> Callable[[Story], Story]:
    """Lose an event of the log, the others moving up."""

    def lose(told: Story) -> Story:
        log = [event for event in told.log if event.seq != seq]
        for place, event in enumerate(log, start=1):
            event.seq = place
        return replace(told, log=log)

    return lose


def _twice(seq: int) -> Callable[[Story], Story]:
    """Repeat an event at the end of the log."""

    def repeat(told: Story) -> Story:
        again = v1.SessionEvent.FromString(told.log[seq - 1].SerializeToString())
        again.seq = len(told.log) + 1
        return replace(told, log=[*told.log, again])

    return repeat


def _with(*records: Record) -> Callable[[Story], Story]:
    return lambda told: replace(told, records=[*told.records, *records])


def _lacking(what: What, seq: int) -> Callable[[Story], Story]:
    return lambda told: replace(told, records=[r for r in told.records if (r.what, r.seq) != (what, seq)])


def _with_result(status: "v1.ToolResult.Status.ValueType", frame_id: str) -> Callable[[Story], Story]:
    def change(told: Story) -> Story:
        told.log[12].tool_call_completed.result.status = status
        told.log[12].frame_id = frame_id
        return told

    return change


@pytest.mark.parametrize(
    ("rule", "break_it"),
    [
        ("acknowledged", _with(Record(0, What.ACK, seq=16, frame_id="f9", detail="ACCEPTED"))),
        ("acknowledged", _with(Record(0, What.ACK, seq=12, frame_id="f9", detail="DUPLICATE"))),
        ("each frame once", _twice(5)),
        ("one end a turn", _without(15)),
        ("one end a turn", _twice(15)),
        ("one result a call", _without(13)),
        ("log", _twice(13)),
        ("log", _twice(11)),
        ("log", _without(11)),
        ("approvals", _without(10)),
        ("approvals", _twice(10)),
        ("no gap, no repetition", _lacking(What.EVENT, 9)),
        ("no gap, no repetition", _with(Record(0, What.EVENT, stream=1, seq=15, key="t1", detail="turn_finished"))),
        ("shown as logged", _with(Record(0, What.EVENT, stream=1, seq=16, detail="user_message"))),
        ("applied once", _lacking(What.APPLIED, 9)),
        ("applied once", _with(Record(0, What.BORN, seq=3))),
        ("caught up", _lacking(What.APPLIED, 15)),
        ("chats go on", _with(Record(0, What.GAVE_UP, detail="why"))),
        ("run once", lambda told: replace(told, runs={"c1": 2})),
        ("run once", lambda told: replace(told, runs={"c1": 1, "c9": 1})),
        ("run once", _without(12)),
        ("real results", lambda told: replace(told, runs={})),
        ("real results", _with(Record(0, What.SENT, frame_id="f4", key="c1", detail="tool_result"))),
        ("real results", _with_result(v1.ToolResult.STATUS_REJECTED, "")),
        ("real results", _with_result(_SUCCEEDED, "f9")),
        ("real results", _with_result(v1.ToolResult.STATUS_OUTCOME_UNKNOWN, "f9")),
        ("one effect a command", lambda told: replace(told, marks={"a-one": 2})),
        ("one effect a command", lambda told: replace(told, marks={})),
        ("one effect a command", lambda told: replace(told, marks={"a-one": 1, "b-one": 1})),
    ],
)
def test_what_must_not_happen_is_found(rule: str, break_it: Callable[[Story], Story]) -> None:
    assert rule in rules(break_it(story()))


def test_a_model_that_answers_over_an_open_call_is_found() -> None:
    told = story()
    told.log[12].CopyFrom(v1.SessionEvent(seq=13, turn_id="t1", assistant_message=v1.AssistantMessage(message_id="m9")))
    assert {"log", "one result a call"} <= rules(told)


def test_a_call_that_was_run_may_be_of_unknown_outcome() -> None:
    told = story()
    told.log[12].tool_call_completed.result.status = v1.ToolResult.STATUS_OUTCOME_UNKNOWN
    assert check(told) == []


def test_who_has_left_need_not_know_the_end() -> None:
    told = story()
    records = [r for r in told.records if (r.what, r.seq) != (What.APPLIED, 15)]
    assert check(replace(told, records=[*records, Record(0, What.LEFT, seq=14)])) == []


def test_a_reviewers_decision_that_was_confirmed_is_in_the_log_of_its_session() -> None:
    sent = Record(0, What.SENT, frame_id="h1", key="ap1", detail="decision")
    confirmed = Record(0, What.ACK, seq=10, frame_id="h1", detail="ACCEPTED")
    assert check_reviewer([sent, confirmed], {"s1": _log()}) == []
    assert check_reviewer([sent, replace(confirmed, seq=9)], {"s1": _log()})
    assert check_reviewer([sent, confirmed], {"s1": _log()[:9]})
    refused = Record(0, What.ACK, frame_id="h1", detail="REJECTED", key="APPROVAL_ALREADY_RESOLVED")
    assert check_reviewer([sent, refused], {"s1": []}) == []


def test_a_line_that_its_writer_did_not_live_to_end_is_skipped() -> None:
    line = Record(1.5, What.ACK, seq=3, frame_id="f1").line()
    assert Record.parse(line) == Record(1.5, What.ACK, seq=3, frame_id="f1")
    assert Record.parse(line[:-9]) is None
