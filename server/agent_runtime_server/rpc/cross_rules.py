"""Rules over several fields of one message."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from agent_runtime import v1

EVENT_TYPES: Final = frozenset(field.name for field in v1.SessionEvent.DESCRIPTOR.oneofs_by_name["payload"].fields)
UPDATABLE: Final = ("title", "labels", "expire_time")
_APPROVING: Final = (v1.APPROVAL_VERDICT_APPROVE, v1.APPROVAL_VERDICT_APPROVE_WITH_EDITS)


class Finding(NamedTuple):
    """A broken rule of the field whose path, seen from the message, is given."""

    field: str
    rule: str
    description: str


def _decision(decision: v1.ApprovalDecision) -> Iterator[Finding]:
    edits = decision.verdict == v1.APPROVAL_VERDICT_APPROVE_WITH_EDITS
    if edits and not decision.edited_arguments_json:
        yield Finding("edited_arguments_json", "required", "must be set: the verdict is APPROVE_WITH_EDITS")
    if decision.edited_arguments_json and not edits:
        description = "must be empty: only the verdict APPROVE_WITH_EDITS takes edited arguments"
        yield Finding("edited_arguments_json", "must_be_empty", description)
    if decision.verdict in _APPROVING and not decision.arguments_sha256:
        description = "must be set to approve: send the arguments_sha256 of the call that was shown"
        yield Finding("arguments_sha256", "required", description)


def _tools(message: v1.ChatHello | v1.UpdateTools) -> Iterator[Finding]:
    first: dict[str, int] = {}
    for index, tool in enumerate(message.tools):
        former = first.setdefault(tool.name, index)
        if former != index:
            description = f"is the name of tools[{former}] too: give each tool a name of its own"
            yield Finding(f"tools[{index}].name", "repeated.unique", description)


def _update(request: v1.UpdateSessionRequest) -> Iterator[Finding]:
    if request.HasField("session") and not request.session.session_id:
        yield Finding("session.session_id", "string.min_len", "must be set: name the session to change")
    if request.HasField("update_mask") and not request.update_mask.paths:
        yield Finding("update_mask.paths", "repeated.min_items", f"must name any of {', '.join(UPDATABLE)}")
    for index, path in enumerate(request.update_mask.paths):
        if path not in UPDATABLE:
            yield Finding(f"update_mask.paths[{index}]", "in", f"must be one of {', '.join(UPDATABLE)}")


def _subscription(request: v1.SubscribeEventsRequest) -> Iterator[Finding]:
    if request.session_id and request.resume_token:
        yield Finding("resume_token", "must_be_empty", "must be empty with session_id: send after_seq instead")
    if request.after_seq and not request.session_id:
        yield Finding("after_seq", "must_be_empty", "must be 0 without session_id: send resume_token instead")
    if request.include_deltas and not request.session_id:
        yield Finding("include_deltas", "must_be_empty", "must be false without session_id: deltas go with one session")
    for index, name in enumerate(request.event_types):
        if name not in EVENT_TYPES:
            description = "names no payload of SessionEvent: send field names such as turn_finished"
            yield Finding(f"event_types[{index}]", "in", description)


def _period(request: v1.ListAuditRecordsRequest) -> Iterator[Finding]:
    if request.HasField("start_time") and request.HasField("end_time"):
        start, end = request.start_time, request.end_time
        if (end.seconds, end.nanos) < (start.seconds, start.nanos):
            yield Finding("end_time", "timestamp.gte", "is before start_time: send a later one")


CROSS_RULES: Final[Mapping[str, Callable[[Any], Iterable[Finding]]]] = {
    "ApprovalDecision": _decision,
    "ChatHello": _tools,
    "ListAuditRecordsRequest": _period,
    "SubscribeEventsRequest": _subscription,
    "UpdateSessionRequest": _update,
    "UpdateTools": _tools,
}
"""Functions by message of the package agent_runtime.v1."""
