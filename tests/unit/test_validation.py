"""What the walker finds in requests and frames, and how it names it."""

import string
from collections.abc import Callable
from contextlib import suppress

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from agent_runtime import v1
from agent_runtime_server.core.errors import ValidationFailed
from agent_runtime_server.rpc.validation import MOST_VIOLATIONS, require_frame_id, validate

SHA = "0123456789abcdef" * 4
MEBIBYTE = 1 << 20


def violations(message: Message, root: str = "") -> list[tuple[str, str]]:
    try:
        validate(message, root)
    except ValidationFailed as error:
        return [(found.field, found.rule) for found in error.violations if found.description]
    return []


def hello(**changes: object) -> v1.ChatHello:
    fields: dict[str, object] = {"session_id": "s", "client_id": "c", "protocol_version": 1}
    return v1.ChatHello(**(fields | changes))  # type: ignore[arg-type]


def said(*parts: v1.Part, **changes: object) -> v1.ChatRequest:
    return v1.ChatRequest(frame_id="f", user_message=v1.UserMessage(parts=parts, **changes))  # type: ignore[arg-type]


def decision(**changes: object) -> v1.ApprovalDecision:
    fields: dict[str, object] = {
        "approval_id": "a",
        "verdict": v1.APPROVAL_VERDICT_APPROVE,
        "arguments_sha256": SHA,
    }
    return v1.ApprovalDecision(**(fields | changes))  # type: ignore[arg-type]


GOOD: dict[str, Message] = {
    "an empty frame": v1.ChatRequest(),
    "a hello": v1.ChatRequest(hello=hello()),
    "a tool without a schema": hello(tools=[v1.ToolSpec(name="read_file")]),
    "a tool": hello(tools=[v1.ToolSpec(name="a.b-c", input_schema_json='{"type":"object"}')]),
    "a message": said(v1.Part(text="hi")),
    "a part of an unknown kind": said(v1.Part()),
    "the longest text": said(v1.Part(text="x" * MEBIBYTE)),
    "the longest text of wide characters": said(v1.Part(text="é" * (MEBIBYTE // 2))),
    "text with U+0000": said(v1.Part(text="\0")),
    "a ping": v1.ChatRequest(ping=v1.Ping(nonce=-1)),
    "a result": v1.ToolResult(call_id="c", status=v1.ToolResult.STATUS_SUCCEEDED),
    "an approval": decision(),
    "a rejection needs no digest": decision(verdict=v1.APPROVAL_VERDICT_REJECT, arguments_sha256=""),
    "edits": decision(verdict=v1.APPROVAL_VERDICT_APPROVE_WITH_EDITS, edited_arguments_json="{}"),
    "a session": v1.CreateSessionRequest(labels={"team": "a"}),
    "a uuid": v1.CreateSessionRequest(request_id="9F3c0b1e-0000-4000-8000-0123456789ab"),
    "an update": v1.UpdateSessionRequest(
        session=v1.Session(session_id="s", title="t"), update_mask=FieldMask(paths=["title"])
    ),
    "a subscription": v1.SubscribeEventsRequest(session_id="s", after_seq=3, event_types=["turn_finished"]),
    "an id of every kind of character": v1.GetSessionRequest(session_id="aZ09._:-"),
}

BAD: dict[str, tuple[Message, list[tuple[str, str]]]] = {
    "nothing set": (
        v1.ChatHello(),
        [
            ("session_id", "string.min_len"),
            ("client_id", "string.min_len"),
            ("protocol_version", "int32.gte"),
        ],
    ),
    "a negative seq": (hello(after_seq=-1), [("after_seq", "int64.gte")]),
    "seq zero": (v1.EventAck(), [("seq", "int64.gt")]),
    "too large a number": (hello(max_unacked_events=10_001), [("max_unacked_events", "int32.lte")]),
    "an unknown role": (hello(role=9), [("role", "enum.defined_only")]),
    "no status": (v1.ToolResult(call_id="c"), [("status", "enum.specified")]),
    "an unknown status": (v1.ToolResult(call_id="c", status=77), [("status", "enum.defined_only")]),  # type: ignore[arg-type]
    "an unknown state in a list": (
        v1.ListSessionsRequest(states=[v1.SESSION_STATE_IDLE, 9]),  # type: ignore[list-item]
        [("states[1]", "enum.defined_only")],
    ),
    "no parts": (v1.ChatRequest(user_message=v1.UserMessage()), [("user_message.parts", "repeated.min_items")]),
    "too many parts": (said(*[v1.Part(text="x")] * 33), [("user_message.parts", "repeated.max_items")]),
    "a long text": (said(v1.Part(text="x" * (MEBIBYTE + 1))), [("user_message.parts[0].text", "string.max_bytes")]),
    "a long wide text": (
        said(v1.Part(text="a"), v1.Part(text="é" * (MEBIBYTE // 2 + 1))),
        [("user_message.parts[1].text", "string.max_bytes")],
    ),
    "long bytes": (said(v1.Part(data=b"x" * (MEBIBYTE + 1))), [("user_message.parts[0].data", "bytes.max_len")]),
    "a long context": (
        said(v1.Part(text="x"), context=[v1.Part(uri="u" * 4097)]),
        [("user_message.context[0].uri", "string.max_len")],
    ),
    "an id with a slash": (v1.GetSessionRequest(session_id="a/b"), [("session_id", "string.pattern")]),
    "an id with a line end": (v1.GetSessionRequest(session_id="a\n"), [("session_id", "string.pattern")]),
    "a long id": (v1.GetSessionRequest(session_id="a" * 65), [("session_id", "string.max_len")]),
    "an id in a list": (
        v1.ApprovalFilter(session_ids=["fine", "not fine"]),
        [("session_ids[1]", "string.pattern")],
    ),
    "U+0000 in a title": (v1.CreateSessionRequest(title="a\0b"), [("title", "string.no_nul")]),
    "no uuid": (v1.CreateSessionRequest(request_id="1"), [("request_id", "string.uuid")]),
    "many labels": (
        v1.CreateSessionRequest(labels={str(n): "" for n in range(33)}),
        [("labels", "map.max_pairs")],
    ),
    "a long label": (
        v1.CreateSessionRequest(labels={"k": "v" * 257}),
        [('labels["k"]', "map.value.string.max_bytes")],
    ),
    "a long key": (
        v1.ListSessionsRequest(labels={"k" * 257: "v"}),
        [(f'labels["{"k" * 32}"]', "map.key.string.max_bytes")],
    ),
    "a name for two tools": (
        hello(tools=[v1.ToolSpec(name="a"), v1.ToolSpec(name="b"), v1.ToolSpec(name="a")]),
        [("tools[2].name", "repeated.unique")],
    ),
    "a tool without a name": (
        v1.UpdateTools(tools=[v1.ToolSpec()]),
        [("tools[0].name", "string.pattern")],
    ),
    "a schema that is no JSON": (
        v1.UpdateTools(tools=[v1.ToolSpec(name="a", input_schema_json="{")]),
        [("tools[0].input_schema_json", "string.json_object")],
    ),
    "a schema that is no object": (
        v1.UpdateTools(tools=[v1.ToolSpec(name="a", input_schema_json="[]")]),
        [("tools[0].input_schema_json", "string.json_object")],
    ),
    "a schema of brackets": (
        v1.UpdateTools(tools=[v1.ToolSpec(name="a", input_schema_json='{"a":' * 10_000)]),
        [("tools[0].input_schema_json", "string.json_object")],
    ),
    "a negative timeout": (
        v1.UpdateTools(tools=[v1.ToolSpec(name="a", timeout=Duration(nanos=-1))]),
        [("tools[0].timeout", "duration.gte")],
    ),
    "an impossible timeout": (
        v1.UpdateTools(tools=[v1.ToolSpec(name="a", timeout=Duration(seconds=1 << 60))]),
        [("tools[0].timeout", "duration.valid")],
    ),
    "an impossible time": (
        v1.ListAuditRecordsRequest(start_time=Timestamp(nanos=-5)),
        [("start_time", "timestamp.valid")],
    ),
    "an upside down period": (
        v1.ListAuditRecordsRequest(start_time=Timestamp(seconds=5), end_time=Timestamp(seconds=4)),
        [("end_time", "timestamp.gte")],
    ),
    "no number": (
        v1.ToolProgress(call_id="c", fraction=float("nan")),
        [("fraction", "double.finite")],
    ),
    "an approval without digest": (decision(arguments_sha256=""), [("arguments_sha256", "required")]),
    "a digest in capitals": (decision(arguments_sha256=SHA.upper()), [("arguments_sha256", "string.pattern")]),
    "edits with a plain approval": (
        decision(edited_arguments_json="{}"),
        [("edited_arguments_json", "must_be_empty")],
    ),
    "an edit without edits": (
        decision(verdict=v1.APPROVAL_VERDICT_APPROVE_WITH_EDITS),
        [("edited_arguments_json", "required")],
    ),
    "no decision": (v1.DecideApprovalRequest(request_id="r"), [("decision", "required")]),
    "no update": (v1.UpdateSessionRequest(), [("session", "required"), ("update_mask", "required")]),
    "an empty update": (
        v1.UpdateSessionRequest(session=v1.Session(), update_mask=FieldMask()),
        [("session.session_id", "string.min_len"), ("update_mask.paths", "repeated.min_items")],
    ),
    "an update of what is fixed": (
        v1.UpdateSessionRequest(session=v1.Session(session_id="s"), update_mask=FieldMask(paths=["title", "owner"])),
        [("update_mask.paths[1]", "in")],
    ),
    "an update with a long title": (
        v1.UpdateSessionRequest(
            session=v1.Session(session_id="s", title="x" * 257), update_mask=FieldMask(paths=["title"])
        ),
        [("session.title", "string.max_len")],
    ),
    "two cursors": (
        v1.SubscribeEventsRequest(session_id="s", resume_token="t"),
        [("resume_token", "must_be_empty")],
    ),
    "a cursor of no session": (
        v1.SubscribeEventsRequest(after_seq=1, include_deltas=True),
        [("after_seq", "must_be_empty"), ("include_deltas", "must_be_empty")],
    ),
    "an unknown event type": (
        v1.SubscribeEventsRequest(event_types=["turn_finished", "turn_finish"]),
        [("event_types[1]", "in")],
    ),
    "a submitted frame": (
        v1.SubmitFrameRequest(session_id="s", client_id="c", frame=said()),
        [("frame.user_message.parts", "repeated.min_items")],
    ),
}


@pytest.mark.parametrize("message", GOOD.values(), ids=GOOD.keys())
def test_good(message: Message) -> None:
    assert violations(message) == []


@pytest.mark.parametrize(("message", "expected"), BAD.values(), ids=BAD.keys())
def test_bad(message: Message, expected: list[tuple[str, str]]) -> None:
    assert violations(message) == expected


def test_a_root_stands_before_every_path() -> None:
    assert violations(v1.GetSessionRequest(), "frame") == [("frame.session_id", "string.min_len")]


def test_no_more_than_64_violations_are_named() -> None:
    tools = [v1.ToolSpec(name="a b", description="x" * 20_000) for _ in range(128)]
    assert len(violations(v1.UpdateTools(tools=tools))) == MOST_VIOLATIONS


def test_a_list_that_is_too_long_is_not_walked() -> None:
    tools = [v1.ToolSpec(name=f"bad name {index}") for index in range(129)]
    assert violations(v1.UpdateTools(tools=tools)) == [("tools", "repeated.max_items")]


def test_what_is_said_shows_no_value() -> None:
    with pytest.raises(ValidationFailed) as caught:
        validate(v1.GetSessionRequest(session_id="my secret"))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("frame_id", "rule"), [("", "string.min_len"), ("a" * 65, "string.max_len"), ("a b", "string.pattern")]
)
def test_a_durable_frame_needs_a_frame_id(frame_id: str, rule: str) -> None:
    with pytest.raises(ValidationFailed) as caught:
        require_frame_id(frame_id)
    assert [(found.field, found.rule) for found in caught.value.violations] == [("frame_id", rule)]


def test_a_well_formed_frame_id_passes() -> None:
    require_frame_id("01J0-aZ_9")


@given(st.text())
def test_an_id_passes_exactly_when_it_is_one(text: str) -> None:
    good = 1 <= len(text) <= 64 and set(text) <= set(string.ascii_letters + string.digits + "._:-")
    assert (violations(v1.GetSessionRequest(session_id=text)) == []) is good


@given(st.text(max_size=40), st.integers(min_value=16, max_value=40))
def test_text_is_measured_in_utf8(text: str, repeat: int) -> None:
    description = text * repeat * 20
    good = len(description.encode()) <= 16_384
    spec = v1.UpdateTools(tools=[v1.ToolSpec(name="a", description=description)])
    assert (violations(spec) == []) is good


REQUESTS: list[Callable[[], Message]] = [
    v1.ChatRequest,
    v1.HitlRequest,
    v1.SubmitFrameRequest,
    v1.CreateSessionRequest,
    v1.ListSessionsRequest,
    v1.UpdateSessionRequest,
    v1.ListAuditRecordsRequest,
    v1.SubscribeEventsRequest,
    v1.DecideApprovalRequest,
    v1.ListApprovalsRequest,
]


@given(st.sampled_from(REQUESTS), st.binary(max_size=200))
def test_whatever_parses_is_walked_without_another_error(request_type: Callable[[], Message], wire: bytes) -> None:
    message = request_type()
    with suppress(DecodeError):
        message.ParseFromString(wire)
    violations(message)
