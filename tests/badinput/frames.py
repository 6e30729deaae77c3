"""Bad frames: those that open a stream, those that are answered on it, and those that end it."""

from collections.abc import Iterator, Mapping

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from agent_runtime import v1
from badinput.case import MEBIBYTE, NO_PROTOBUF, Case, Facts, Input, Told, invalid, refused

CHAT, HITL = "ChatService.Chat", "HitlService.Hitl"
TOO_LARGE_FOR_GRPC = Told(8)
UNKNOWN_KIND = b"\x0a\x02f1\xa2\x06\x03new"  # frame_id f1, then a field of number 100

BAD_SCHEMAS = {
    "a schema that is no JSON": "{",
    "a schema that is no object": "[]",
    "a schema of NaN": '{"minimum": NaN}',
    "a schema of brackets": '{"a":' * 10_000,
    "a schema of 64 kB and more": '{"title": "' + "x" * 65_536 + '"}',
    "a schema of no object": '{"type": "string"}',
    "a schema with an unknown type": '{"properties": {"a": {"type": "thing"}}}',
    "a schema that fetches": '{"$ref": "http://127.0.0.1:1/schema.json"}',
    "a schema with a pattern that is none": '{"properties": {"a": {"pattern": "("}}}',
}

BAD_ARGUMENTS = {
    "no JSON": "{path: a.txt}",
    "JSON cut off": '{"path": "a.txt", "content": "h',
    "a list": '["a.txt", "hi"]',
    "NaN": '{"path": "a.txt", "content": NaN}',
    "brackets": '{"path":' * 50_000,
    "closed brackets": "[" * 50_000 + "]" * 50_000,
    "a key twice": '{"path": "a.txt", "path": "b.txt", "content": "hi"}',
    "nothing": "{}",
    "a number for a string": '{"path": 7, "content": "hi"}',
    "an object for a string": '{"path": {"a": 1}, "content": "hi"}',
    "half a surrogate": '{"path": "\\ud800", "content": "hi"}',
}


def part(text: str = "hi") -> v1.Part:
    """Return a part of text."""
    return v1.Part(text=text)


def said(*parts: v1.Part, frame_id: str = "f", **message: object) -> v1.ChatRequest:
    """Return a user message."""
    fields = v1.UserMessage(parts=parts, **message)  # type: ignore[arg-type]
    return v1.ChatRequest(frame_id=frame_id, user_message=fields)


def result(**fields: object) -> v1.ChatRequest:
    """Return a tool result."""
    given = {"call_id": "c", "status": v1.ToolResult.STATUS_SUCCEEDED} | fields
    return v1.ChatRequest(frame_id="f", tool_result=v1.ToolResult(**given))  # type: ignore[arg-type]


def tools(*specs: v1.ToolSpec) -> v1.ChatRequest:
    """Return a new list of tools."""
    return v1.ChatRequest(frame_id="f", update_tools=v1.UpdateTools(tools=specs))


def hello(**fields: object) -> v1.ChatRequest:
    """Return a hello to the session "good"."""
    given = {"session_id": "good", "client_id": "ide", "protocol_version": 1} | fields
    return v1.ChatRequest(hello=v1.ChatHello(**given))  # type: ignore[arg-type]


def review(**fields: object) -> v1.HitlRequest:
    """Return a reviewer's hello."""
    given = {"client_id": "reviewer", "protocol_version": 1} | fields
    return v1.HitlRequest(hello=v1.HitlHello(**given))  # type: ignore[arg-type]


def tool(**fields: object) -> v1.ToolSpec:
    """Return a tool that no standard tool is."""
    return v1.ToolSpec(**({"name": "lint"} | fields))  # type: ignore[arg-type]


def openings() -> Iterator[Case]:
    """Return first frames that end their stream."""
    for rpc, empty in ((CHAT, v1.ChatRequest()), (HITL, v1.HitlRequest())):
        yield Case("an empty frame", rpc, empty, refused("HELLO_REQUIRED"))
        yield Case("a frame of an unknown kind", rpc, UNKNOWN_KIND, refused("HELLO_REQUIRED"))
        for name, data in NO_PROTOBUF.items():
            yield Case(name, rpc, data, invalid(""))
    for kind, frame in _CHAT_KINDS.items():
        yield Case(f"{kind} before the hello", CHAT, frame, refused("HELLO_REQUIRED"))
    for kind, review_frame in _HITL_KINDS.items():
        yield Case(f"{kind} before the hello", HITL, review_frame, refused("HELLO_REQUIRED"))
    for name, schema in BAD_SCHEMAS.items():
        field = "hello.tools[0].input_schema_json"
        yield Case(name, CHAT, hello(tools=[tool(input_schema_json=schema)]), invalid(field))
    for name, opening, told in _HELLOS:
        yield Case(name, CHAT, opening, told)
    for name, review_opening, told in _REVIEW_HELLOS:
        yield Case(name, HITL, review_opening, told)


def answered() -> Iterator[Case]:
    """Return frames of a chat that are rejected and leave the stream as it is; `where` is the session."""
    for name, schema in BAD_SCHEMAS.items():
        field = "update_tools.tools[0].input_schema_json"
        yield Case(name, "good", tools(tool(input_schema_json=schema)), invalid(field))
    for name, frame, told in _FRAMES:
        yield Case(name, "good", frame, told)
    for name, edited in BAD_ARGUMENTS.items():
        yield Case(f"edited to {name}", "waiting", _edit(edited), refused("TOOL_ARGUMENTS_INVALID"))
    for name, decided, told in _DECISIONS:
        yield Case(name, "waiting", decided, told)


def reviewed() -> Iterator[Case]:
    """Return frames of a reviewer that are rejected and leave the stream as it is."""
    for name, frame, told in _REVIEWS:
        yield Case(name, HITL, frame, told)


def endings() -> Iterator[Case]:
    """Return frames that end a stream which was well until then."""
    yield Case("a second hello", CHAT, hello(), refused("HELLO_REQUIRED"))
    yield Case("a second hello", HITL, review(), refused("HELLO_REQUIRED"))
    for rpc in (CHAT, HITL):
        for name, data in NO_PROTOBUF.items():
            yield Case(name, rpc, data, invalid(""))
        yield Case("10 MB", rpc, b"\x0a" + b"\x80\x80\x80\x05" + b"x" * 10 * MEBIBYTE, TOO_LARGE_FOR_GRPC)
    for kind in ("user_message", "tool_call_started", "tool_result", "approval_decision", "cancel_turn",
                 "update_tools", "switch_agent"):  # fmt: skip
        yield Case(f"{kind} without frame_id", CHAT, _CHAT_KINDS[kind], invalid("frame_id"))
    for kind in ("claim", "release", "decision"):
        yield Case(f"{kind} without frame_id", HITL, _HITL_KINDS[kind], invalid("frame_id"))
    large = v1.ChatRequest(tool_progress=v1.ToolProgress(call_id="c", text="x" * 2 * MEBIBYTE))
    yield Case("2 MB without frame_id", CHAT, large, refused("FRAME_TOO_LARGE"))


_CHAT_KINDS: Mapping[str, v1.ChatRequest] = {
    "user_message": said(part(), frame_id=""),
    "tool_call_started": v1.ChatRequest(tool_call_started=v1.ToolCallStarted(call_id="c")),
    "tool_result": v1.ChatRequest(tool_result=v1.ToolResult(call_id="c", status=v1.ToolResult.STATUS_FAILED)),
    "approval_decision": v1.ChatRequest(approval_decision=v1.ApprovalDecision(approval_id="a")),
    "cancel_turn": v1.ChatRequest(cancel_turn=v1.CancelTurn()),
    "update_tools": v1.ChatRequest(update_tools=v1.UpdateTools()),
    "ack": v1.ChatRequest(ack=v1.EventAck(seq=1)),
    "tool_progress": v1.ChatRequest(tool_progress=v1.ToolProgress(call_id="c")),
    "ping": v1.ChatRequest(ping=v1.Ping(nonce=1)),
    "switch_agent": v1.ChatRequest(switch_agent=v1.SwitchAgent(agent_id="coder")),
}

_HITL_KINDS: Mapping[str, v1.HitlRequest] = {
    "claim": v1.HitlRequest(claim=v1.ApprovalClaim(approval_id="a")),
    "release": v1.HitlRequest(release=v1.ApprovalRelease(approval_id="a")),
    "decision": v1.HitlRequest(decision=v1.ApprovalDecision(approval_id="a", verdict=v1.APPROVAL_VERDICT_REJECT)),
    "ping": v1.HitlRequest(ping=v1.Ping(nonce=1)),
}

_HELLOS: tuple[tuple[str, Input, Told], ...] = (
    ("no session", hello(session_id=""), invalid("hello.session_id")),
    ("a session with a slash", hello(session_id="a/b"), invalid("hello.session_id")),
    ("an unknown session", hello(session_id="nowhere"), refused("SESSION_NOT_FOUND")),
    ("no client", hello(client_id=""), invalid("hello.client_id")),
    ("a long client", hello(client_id="c" * 65), invalid("hello.client_id")),
    ("no protocol version", hello(protocol_version=0), invalid("hello.protocol_version")),
    ("a negative protocol version", hello(protocol_version=-3), invalid("hello.protocol_version")),
    ("a negative seq", hello(after_seq=-1), invalid("hello.after_seq")),
    ("a seq ahead of the log", hello(after_seq=1 << 50), refused("SEQ_AHEAD_OF_LOG")),
    ("the last seq there can be", hello(after_seq=(1 << 63) - 1), refused("SEQ_AHEAD_OF_LOG")),
    ("an unknown role", hello(role=9), invalid("hello.role")),
    ("too many tools", hello(tools=[tool(name=f"t{n}") for n in range(129)]), invalid("hello.tools")),
    ("a tool without a name", hello(tools=[tool(name="")]), invalid("hello.tools[0].name")),
    ("a tool with a space", hello(tools=[tool(), tool(name="a b")]), invalid("hello.tools[1].name")),
    ("a name for two tools", hello(tools=[tool(), tool()]), invalid("hello.tools[1].name")),
    ("an unknown risk", hello(tools=[tool(risk=77)]), invalid("hello.tools[0].risk")),
    ("an unknown effect", hello(tools=[tool(effect=-1)]), invalid("hello.tools[0].effect")),
    ("a long description", hello(tools=[tool(description="x" * 16_385)]), invalid("hello.tools[0].description")),
    ("a negative timeout", hello(tools=[tool(timeout=Duration(seconds=-1))]), invalid("hello.tools[0].timeout")),
    ("an impossible timeout", hello(tools=[tool(timeout=Duration(seconds=1 << 60))]),
     invalid("hello.tools[0].timeout")),
    ("too many features", hello(features=["f"] * 33), invalid("hello.features")),
    ("fewer than no acks", hello(max_unacked_events=-1), invalid("hello.max_unacked_events")),
    ("too many acks", hello(max_unacked_events=10_001), invalid("hello.max_unacked_events")),
    ("a long user agent", hello(user_agent="x" * 257), invalid("hello.user_agent")),
    ("a hello of 2 MB", hello(tools=[tool(name=f"t{n}", description="x" * 16_000) for n in range(128)]),
     refused("FRAME_TOO_LARGE")),
    ("a hello of 10 MB", hello(user_agent="x" * 10 * MEBIBYTE), TOO_LARGE_FOR_GRPC),
)  # fmt: skip

_REVIEW_HELLOS: tuple[tuple[str, Input, Told], ...] = (
    ("no client", review(client_id=""), invalid("hello.client_id")),
    ("no protocol version", review(protocol_version=0), invalid("hello.protocol_version")),
    ("a token of noise", review(resume_token="%%%"), refused("RESUME_TOKEN_INVALID")),
    ("a token that holds no list", review(resume_token="e30"), refused("RESUME_TOKEN_INVALID")),
    ("a long token", review(resume_token="x" * 1025), invalid("hello.resume_token")),
    ("too many features", review(features=["f"] * 33), invalid("hello.features")),
    ("an unknown risk", review(filter=v1.ApprovalFilter(min_risk=9)),  # type: ignore[arg-type]
     invalid("hello.filter.min_risk")),
    ("too many agents", review(filter=v1.ApprovalFilter(agent_ids=["a"] * 101)), invalid("hello.filter.agent_ids")),
    ("a session with a space", review(filter=v1.ApprovalFilter(session_ids=["a b"])),
     invalid("hello.filter.session_ids[0]")),
)  # fmt: skip

_FRAMES: tuple[tuple[str, Input, Told], ...] = (
    ("a frame of no kind", v1.ChatRequest(frame_id="f"), refused("UNSUPPORTED_FRAME")),
    ("a frame of an unknown kind", UNKNOWN_KIND, refused("UNSUPPORTED_FRAME")),
    ("an empty frame", v1.ChatRequest(), refused("UNSUPPORTED_FRAME")),
    ("a frame_id with a space", said(part(), frame_id="a b"), invalid("frame_id")),
    ("a long frame_id", said(part(), frame_id="f" * 65), invalid("frame_id")),
    ("a message without parts", said(), invalid("user_message.parts")),
    ("too many parts", said(*[part()] * 33), invalid("user_message.parts")),
    ("too long a text", said(part("x" * (MEBIBYTE + 1))), invalid("user_message.parts[0].text")),
    ("too long a text of wide letters", said(part("ж" * (MEBIBYTE // 2 + 1))), invalid("user_message.parts[0].text")),
    ("too long JSON", said(v1.Part(json="[" * (MEBIBYTE + 1))), invalid("user_message.parts[0].json")),
    ("too many bytes", said(v1.Part(data=b"x" * (MEBIBYTE + 1))), invalid("user_message.parts[0].data")),
    ("too long a URI", said(part(), v1.Part(uri="u" * 4097)), invalid("user_message.parts[1].uri")),
    ("too long a media type", said(v1.Part(media_type="m" * 256)), invalid("user_message.parts[0].media_type")),
    ("too much context", said(part(), context=[part()] * 65), invalid("user_message.context")),
    ("an agent with a space", said(part(), agent_id="a b"), invalid("user_message.agent_id")),
    ("an unknown agent", said(part(), agent_id="nobody"), refused("AGENT_NOT_FOUND")),
    ("an answer to no question", said(part(), question_id="q"), invalid("user_message.question_id")),
    ("too many options", said(part(), option_ids=["o"] * 17), invalid("user_message.option_ids")),
    ("a message of 2 MB", said(part("x" * MEBIBYTE), part("x" * MEBIBYTE)), refused("FRAME_TOO_LARGE")),
    ("an unknown call started", v1.ChatRequest(
        frame_id="f", tool_call_started=v1.ToolCallStarted(call_id="c")), refused("TOOL_CALL_NOT_FOUND")),
    ("no call started", v1.ChatRequest(frame_id="f", tool_call_started=v1.ToolCallStarted()),
     invalid("tool_call_started.call_id")),
    ("a result of an unknown call", result(), refused("TOOL_CALL_NOT_FOUND")),
    ("a result of no call", result(call_id=""), invalid("tool_result.call_id")),
    ("a result without status", result(status=0), invalid("tool_result.status")),
    ("a result of an unknown status", result(status=77), invalid("tool_result.status")),
    ("a result from nowhere", result(source=99), invalid("tool_result.source")),
    ("a result of a negative size", result(original_size_bytes=-1), invalid("tool_result.original_size_bytes")),
    ("a result of many parts", result(content=[part()] * 65), invalid("tool_result.content")),
    ("a result with a long error", result(error_message="x" * 16_385), invalid("tool_result.error_message")),
    ("a result with a long text", result(content=[part("x" * (MEBIBYTE + 1))]), invalid("tool_result.content[0].text")),
    ("cancelling when nothing runs", v1.ChatRequest(frame_id="f", cancel_turn=v1.CancelTurn()),
     refused("TURN_NOT_FOUND")),
    ("cancelling an unknown turn", v1.ChatRequest(frame_id="f", cancel_turn=v1.CancelTurn(turn_id="t")),
     refused("TURN_NOT_FOUND")),
    ("cancelling for a long reason", v1.ChatRequest(frame_id="f", cancel_turn=v1.CancelTurn(reason="x" * 1025)),
     invalid("cancel_turn.reason")),
    ("an unknown agent to switch to", v1.ChatRequest(
        frame_id="f", switch_agent=v1.SwitchAgent(agent_id="nobody")), refused("AGENT_NOT_FOUND")),
    ("no agent to switch to", v1.ChatRequest(frame_id="f", switch_agent=v1.SwitchAgent()),
     invalid("switch_agent.agent_id")),
    ("a name for two tools", tools(tool(), tool()), invalid("update_tools.tools[1].name")),
    ("too many tools", tools(*[tool()] * 129), invalid("update_tools.tools")),
    ("tools of 2 MB", tools(*[tool(name=f"t{n}", description="x" * 16_000) for n in range(128)]),
     refused("FRAME_TOO_LARGE")),
    ("an ack of nothing", v1.ChatRequest(ack=v1.EventAck()), invalid("ack.seq")),
    ("a negative ack", v1.ChatRequest(ack=v1.EventAck(seq=-9)), invalid("ack.seq")),
    ("progress of no call", v1.ChatRequest(tool_progress=v1.ToolProgress()), invalid("tool_progress.call_id")),
    ("long progress", v1.ChatRequest(tool_progress=v1.ToolProgress(call_id="c", text="x" * 65_537)),
     invalid("tool_progress.text")),
    ("progress that is no number", v1.ChatRequest(
        tool_progress=v1.ToolProgress(call_id="c", fraction=float("nan"))), invalid("tool_progress.fraction")),
    ("a decision on an unknown approval", v1.ChatRequest(frame_id="f", approval_decision=v1.ApprovalDecision(
        approval_id="a", verdict=v1.APPROVAL_VERDICT_REJECT)), refused("APPROVAL_NOT_FOUND")),
)  # fmt: skip


def _decide(facts: Facts, **fields: object) -> v1.ChatRequest:
    given = {
        "approval_id": facts.approval_id,
        "arguments_sha256": facts.arguments_sha256,
        "verdict": v1.APPROVAL_VERDICT_APPROVE,
    } | fields
    return v1.ChatRequest(frame_id="f", approval_decision=v1.ApprovalDecision(**given))  # type: ignore[arg-type]


def _edit(text: str) -> Input:
    verdict = v1.APPROVAL_VERDICT_APPROVE_WITH_EDITS
    return lambda facts: _decide(facts, verdict=verdict, edited_arguments_json=text)


def _deciding(**fields: object) -> Input:
    return lambda facts: _decide(facts, **fields)


def _started(facts: Facts) -> Message:
    return v1.ChatRequest(frame_id="f", tool_call_started=v1.ToolCallStarted(call_id=facts.asked_call_id))


_EDITS = v1.APPROVAL_VERDICT_APPROVE_WITH_EDITS
_DECISIONS: tuple[tuple[str, Input, Told], ...] = (
    ("no verdict", _deciding(verdict=0), invalid("approval_decision.verdict")),
    ("an unknown verdict", _deciding(verdict=9), invalid("approval_decision.verdict")),
    ("an unknown scope", _deciding(scope=9), invalid("approval_decision.scope")),
    ("no digest", _deciding(arguments_sha256=""), invalid("approval_decision.arguments_sha256")),
    ("a digest that is none", _deciding(arguments_sha256="abc"), invalid("approval_decision.arguments_sha256")),
    ("another digest", _deciding(arguments_sha256="0" * 64), refused("APPROVAL_STALE")),
    ("a revision not seen yet", _deciding(expected_revision=99), refused("APPROVAL_STALE")),
    ("a negative revision", _deciding(expected_revision=-1), invalid("approval_decision.expected_revision")),
    ("a long comment", _deciding(comment="x" * 8193), invalid("approval_decision.comment")),
    ("edits that are none", _deciding(verdict=_EDITS), invalid("approval_decision.edited_arguments_json")),
    ("edits with an approval", _deciding(edited_arguments_json="{}"),
     invalid("approval_decision.edited_arguments_json")),
    ("edits of more than 1 MB", _deciding(verdict=_EDITS, edited_arguments_json='{"path": "' + "x" * MEBIBYTE + '"}'),
     invalid("approval_decision.edited_arguments_json")),
    ("starting what is not approved", _started, refused("TOOL_CALL_NOT_DISPATCHED")),
    ("a result of what is not approved", lambda facts: result(call_id=facts.asked_call_id),
     refused("TOOL_CALL_NOT_DISPATCHED")),
    ("a result of another session's call", lambda facts: result(call_id=facts.dispatched_call_id),
     refused("TOOL_CALL_NOT_FOUND")),
)  # fmt: skip


def _claim(approval_id: str, frame_id: str = "f") -> v1.HitlRequest:
    return v1.HitlRequest(frame_id=frame_id, claim=v1.ApprovalClaim(approval_id=approval_id))


def _verdict(**fields: object) -> Input:
    return lambda facts: v1.HitlRequest(frame_id="f", decision=_decide(facts, **fields).approval_decision)


_REVIEWS: tuple[tuple[str, Input, Told], ...] = (
    ("a frame of no kind", v1.HitlRequest(frame_id="f"), refused("UNSUPPORTED_FRAME")),
    ("a frame of an unknown kind", UNKNOWN_KIND, refused("UNSUPPORTED_FRAME")),
    ("a frame_id with a space", _claim("a", frame_id="a b"), invalid("frame_id")),
    ("a claim of nothing", _claim(""), invalid("claim.approval_id")),
    ("a claim of an unknown approval", _claim("a-1"), refused("APPROVAL_NOT_FOUND")),
    ("a release of an unknown approval",
     v1.HitlRequest(frame_id="f", release=v1.ApprovalRelease(approval_id="a-1")), refused("APPROVAL_NOT_FOUND")),
    ("no verdict", _verdict(verdict=0), invalid("decision.verdict")),
    ("no digest", _verdict(arguments_sha256=""), invalid("decision.arguments_sha256")),
    ("another digest", _verdict(arguments_sha256="0" * 64), refused("APPROVAL_STALE")),
    ("a revision not seen yet", _verdict(expected_revision=99), refused("APPROVAL_STALE")),
    ("an unknown approval", _verdict(approval_id="a-1"), refused("APPROVAL_NOT_FOUND")),
    ("edits that break the schema", _verdict(verdict=_EDITS, edited_arguments_json='{"path": 7}'),
     refused("TOOL_ARGUMENTS_INVALID")),
    ("a decision of 2 MB", v1.HitlRequest(frame_id="f", decision=v1.ApprovalDecision(
        approval_id="a", comment="x" * 2 * MEBIBYTE)), refused("FRAME_TOO_LARGE")),
)  # fmt: skip
