"""What must hold of a session whatever has befallen it, told from its log, its clients' records, and its workspace.

A pure function of these: it finds the same in records made by hand.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from agent_runtime import v1
from agent_runtime_server.agents.registry import Registry, builtin
from enginekit.rules import folded_messages, log_problems, transcript_problems
from killkit.records import NO_STREAM, Record, What

_MARK = re.compile(r"runs/(\S+?);")
_COMMITTED = frozenset({"ACCEPTED", "DUPLICATE"})
_REPEATABLE = frozenset({"read_file", "list_files", "search_in_code"})
_NEVER_RAN = frozenset({v1.ToolResult.STATUS_REJECTED})
_BY_THE_SERVER = frozenset({v1.ToolResult.STATUS_CANCELLED, v1.ToolResult.STATUS_TIMED_OUT})


@dataclass(frozen=True, slots=True)
class Story:
    """All that is known of one session."""

    session_id: str
    log: Sequence[v1.SessionEvent]
    records: Sequence[Record]
    """Of its executor, over all of its lives."""
    runs: Mapping[str, int] = field(default_factory=dict)
    """How often each call was begun by the client's tools."""
    marks: Mapping[str, int] = field(default_factory=dict)
    """How often each command has left its mark in the workspace."""


@dataclass(frozen=True, slots=True)
class Violation:
    """Something that must never happen, and did."""

    rule: str
    session_id: str
    text: str

    def __str__(self) -> str:
        return f"{self.session_id}: {self.rule}: {self.text}"


_AGENTS: Registry = builtin()


def check(story: Story) -> list[Violation]:
    """Return every violation in a session's story."""
    return [Violation(rule, story.session_id, text) for rule, look in _RULES.items() for text in look(story)]


def check_reviewer(records: Sequence[Record], logs: Mapping[str, Sequence[v1.SessionEvent]]) -> list[Violation]:
    """Return the decisions that were confirmed to a reviewer and are not in the log of their session."""
    made = {event.frame_id: event for log in logs.values() for event in log if event.HasField("approval_resolved")}
    sent = {record.frame_id: record.key for record in records if record.what is What.SENT}
    found = []
    for record in records:
        if record.what is not What.ACK or record.detail not in _COMMITTED:
            continue
        event, approval_id = made.get(record.frame_id), sent.get(record.frame_id, "")
        named = (event.seq, event.approval_resolved.approval.approval_id) if event is not None else None
        if named != (record.seq, approval_id):
            found.append(Violation("acknowledged", approval_id, f"{record.frame_id} was acknowledged as {record.seq}"))
    return found


def _log(story: Story) -> Iterator[str]:
    """The log is one that a session can have."""
    yield from log_problems(story.log)


def _frames(story: Story) -> Iterator[str]:
    """Each frame is in the log once."""
    counted = Counter(event.frame_id for event in story.log if event.frame_id)
    yield from (f"{frame_id} made {number} events" for frame_id, number in counted.items() if number > 1)


def _turns(story: Story) -> Iterator[str]:
    """Every turn ends in exactly one final state."""
    asked = {event.turn_id for event in story.log if event.HasField("user_message")}
    ended = Counter(event.turn_id for event in story.log if event.HasField("turn_finished"))
    yield from (f"{turn} has {ended[turn]} ends" for turn in sorted(asked | ended.keys()) if ended[turn] != 1)


def _calls(story: Story) -> Iterator[str]:
    """Every call that was proposed has a result."""
    proposed = {event.tool_call_proposed.tool_call.call_id for event in story.log}
    completed = {event.tool_call_completed.result.call_id for event in story.log}
    yield from (f"{call_id} has no result" for call_id in sorted(proposed - completed))


def _approvals(story: Story) -> Iterator[str]:
    """Every approval is resolved once, and nothing that waits for one is dispatched before it is given."""
    asked = {event.approval_requested.approval.approval_id for event in story.log} - {""}
    resolved = Counter(e.approval_resolved.approval.approval_id for e in story.log if e.HasField("approval_resolved"))
    yield from (
        f"{key} was resolved {resolved[key]} times" for key in sorted(asked | resolved.keys()) if resolved[key] != 1
    )
    given: set[str] = set()
    wanted: set[str] = set()
    for event in story.log:
        if event.HasField("approval_requested"):
            wanted.add(event.approval_requested.approval.tool_call.call_id)
        approval = event.approval_resolved.approval
        if approval.state in (v1.APPROVAL_STATE_APPROVED, v1.APPROVAL_STATE_APPROVED_WITH_EDITS):
            given.add(approval.tool_call.call_id)
        call_id = event.tool_call_dispatched.tool_call.call_id
        if call_id in wanted - given:
            yield f"{call_id} was dispatched without the approval it needs"


def _transcript(story: Story) -> Iterator[str]:
    """The transcript is one that any model provider accepts."""
    try:
        said = folded_messages(story.log, _AGENTS)
    except Exception as error:  # noqa: BLE001 - a log that no session can have may break the fold in any way
        yield f"the log cannot be folded: {error!r}"
    else:
        yield from transcript_problems(said)


def _acks(story: Story) -> Iterator[str]:
    """What was acknowledged is in the log, under the seq and the frame id that were named."""
    for record in story.records:
        if record.what is What.ACK and record.detail in _COMMITTED and record.seq:
            event = story.log[record.seq - 1] if record.seq <= len(story.log) else None
            if event is None or event.frame_id != record.frame_id:
                yield f"{record.frame_id} was acknowledged as event {record.seq}"


def _seen(story: Story) -> Iterator[str]:
    """What a client was shown is what the log says."""
    for record in story.records:
        if record.what is not What.EVENT:
            continue
        event = story.log[record.seq - 1] if record.seq <= len(story.log) else v1.SessionEvent()
        told = (record.detail, record.frame_id, record.key)
        if told != (event.WhichOneof("payload"), event.frame_id, event.turn_id):
            yield f"event {record.seq} was shown as {told}"


def _streams(story: Story) -> Iterator[str]:
    """Each stream tells every event behind its hello, once and in order."""
    last: dict[tuple[int, int], int] = {}
    life = 0
    for record in story.records:
        life += record.what is What.BORN
        if record.what is What.HELLO:
            last[life, record.stream] = record.seq
        elif record.what is What.EVENT:
            before = last.get((life, record.stream), NO_STREAM)
            if record.seq != before + 1:
                yield f"stream {record.stream} of life {life} showed {record.seq} after {before}"
            last[life, record.stream] = record.seq


def _applied(story: Story) -> Iterator[str]:
    """The program is given every event once and in order, over all of its lives."""
    last = 0
    for record in story.records:
        if record.what is What.APPLIED and record.seq != (last := last + 1):
            yield f"{record.seq} was given to the program as number {last}"
            return
        if record.what is What.BORN and record.seq != last:
            yield f"the program went on behind {record.seq} instead of {last}"


def _caught_up(story: Story) -> Iterator[str]:
    """In the end the program knows the whole log, unless it has left for good with all of its turns over."""
    if any(record.what is What.LEFT for record in story.records):
        return
    last = max((record.seq for record in story.records if record.what is What.APPLIED), default=0)
    if last != len(story.log):
        yield f"the client knows {last} of {len(story.log)} events"


def _faithful(story: Story) -> Iterator[str]:
    """The library never ends a chat by itself."""
    yield from (f"the chat ended: {record.detail}" for record in story.records if record.what is What.GAVE_UP)


def _runs(story: Story) -> Iterator[str]:
    """What is not idempotent is run once at most, only when dispatched and started, and its success is no lie."""
    started = {event.tool_call_started.call_id for event in story.log}
    calls = {e.tool_call_dispatched.tool_call.call_id: e.tool_call_dispatched.tool_call for e in story.log}
    for call_id in story.runs.keys() - calls.keys():
        yield f"{call_id} was run without having been dispatched"
    for call_id in (calls.keys() - {""}) & story.runs.keys():
        if calls[call_id].tool_name in _REPEATABLE:
            continue
        if story.runs[call_id] > 1:
            yield f"{call_id} was run {story.runs[call_id]} times"
        if call_id not in started:
            yield f"{call_id} was run before its start was in the log"


def _results(story: Story) -> Iterator[str]:
    """A call that was run has its real result, or its outcome is not known; one that was not run has no success."""
    sent: dict[str, set[str]] = {}
    for record in story.records:
        if record.what is What.SENT and record.detail == "tool_result":
            sent.setdefault(record.key, set()).add(record.frame_id)
    yield from (
        f"the result of {call_id} was sent as {len(ids)} frames" for call_id, ids in sent.items() if len(ids) > 1
    )
    for event in story.log:
        result = event.tool_call_completed.result
        runs = story.runs.get(result.call_id, 0)
        if result.status in _NEVER_RAN and runs:
            yield f"{result.call_id} was run and is told as {v1.ToolResult.Status.Name(result.status)}"
        told = event.frame_id in sent.get(result.call_id, ())
        if result.call_id in sent and not told and result.status not in _BY_THE_SERVER:
            yield f"{result.call_id} has another result than its client told"
        if told and result.status == v1.ToolResult.STATUS_SUCCEEDED and not runs:
            yield f"{result.call_id} succeeded without having been run"


def _marks(story: Story) -> Iterator[str]:
    """Each command has had its effect on the workspace at most once, and exactly once when it succeeded."""
    yield from (f"{name} was marked {number} times" for name, number in story.marks.items() if number != 1)
    names = {}
    for event in story.log:
        call = event.tool_call_dispatched.tool_call
        if call.tool_name == "execute_command" and (found := _MARK.search(json.loads(call.arguments_json)["command"])):
            names[call.call_id] = found[1]
    done = {
        event.tool_call_completed.result.call_id
        for event in story.log
        if event.tool_call_completed.result.status == v1.ToolResult.STATUS_SUCCEEDED
    }
    for call_id, name in names.items():
        if call_id in done and name not in story.marks:
            yield f"{call_id} succeeded without its effect"
    yield from (f"{name} was marked by no command of the log" for name in story.marks.keys() - set(names.values()))


_RULES: Mapping[str, Callable[[Story], Iterator[str]]] = {
    "log": _log,
    "each frame once": _frames,
    "one end a turn": _turns,
    "one result a call": _calls,
    "approvals": _approvals,
    "provider-valid": _transcript,
    "acknowledged": _acks,
    "shown as logged": _seen,
    "no gap, no repetition": _streams,
    "applied once": _applied,
    "caught up": _caught_up,
    "chats go on": _faithful,
    "run once": _runs,
    "real results": _results,
    "one effect a command": _marks,
}
