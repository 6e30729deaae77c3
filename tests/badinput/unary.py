"""Bad requests, by RPC."""

from collections.abc import Iterator

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from agent_runtime import v1
from badinput.case import NO_PROTOBUF, Case, Input, Told, invalid, refused

METHODS = (
    "AgentService.GetAgent",
    "AgentService.ListAgents",
    "ChatService.SubmitFrame",
    "EventService.SubscribeEvents",
    "HitlService.GetApproval",
    "HitlService.ListApprovals",
    "HitlService.DecideApproval",
    "SessionService.CreateSession",
    "SessionService.GetSession",
    "SessionService.ListSessions",
    "SessionService.UpdateSession",
    "SessionService.CloseSession",
    "SessionService.ListSessionEvents",
    "SystemService.GetServerStatus",
    "SystemService.GetUsage",
)
"""Every RPC with one request."""

BAD_IDS = {
    "no id": "",
    "a long id": "a" * 65,
    "an id of 100 kB": "a" * 100_000,
    "an id with a slash": "../../etc/passwd",
    "an id with a space": "a b",
    "an id with U+0000": "a\0b",
    "an id with a letter of no alphabet": "süß",
    "an id of SQL": "'; DROP TABLE sessions; --",
}

REJECT = v1.ApprovalDecision(approval_id="a", verdict=v1.APPROVAL_VERDICT_REJECT)
HI = v1.ChatRequest(frame_id="f", user_message=v1.UserMessage(parts=[v1.Part(text="hi")]))


def cases() -> Iterator[Case]:
    """Return them all."""
    yield from _malformed()
    yield from _ids()
    yield from _pages()
    for method, name, request, told in _REQUESTS:
        yield Case(name, method, request, told)


def _malformed() -> Iterator[Case]:
    for method in METHODS:
        for name, data in NO_PROTOBUF.items():
            yield Case(name, method, data, invalid(""))
    for method in ("SessionService.GetSession", "HitlService.GetApproval", "AgentService.GetAgent"):
        yield Case("a string that is no UTF-8", method, b"\x0a\x02\xc3\x28", invalid(""))


def _ids() -> Iterator[Case]:
    for name, bad in BAD_IDS.items():
        yield Case(name, "SessionService.GetSession", v1.GetSessionRequest(session_id=bad), invalid("session_id"))
        yield Case(name, "SessionService.CloseSession", v1.CloseSessionRequest(session_id=bad), invalid("session_id"))
        events = v1.ListSessionEventsRequest(session_id=bad)
        yield Case(name, "SessionService.ListSessionEvents", events, invalid("session_id"))
        yield Case(name, "HitlService.GetApproval", v1.GetApprovalRequest(approval_id=bad), invalid("approval_id"))
        yield Case(name, "AgentService.GetAgent", v1.GetAgentRequest(agent_id=bad), invalid("agent_id"))
        decide = v1.DecideApprovalRequest(request_id=bad, decision=REJECT)
        yield Case(name, "HitlService.DecideApproval", decide, invalid("request_id"))
        submit = v1.SubmitFrameRequest(session_id="good", client_id=bad, frame=HI)
        yield Case(name, "ChatService.SubmitFrame", submit, invalid("client_id"))


def _pages() -> Iterator[Case]:
    for method, kind in (
        ("SessionService.ListSessions", v1.ListSessionsRequest),
        ("HitlService.ListApprovals", v1.ListApprovalsRequest),
        ("AgentService.ListAgents", v1.ListAgentsRequest),
    ):
        yield Case("a negative page", method, kind(page_size=-1), invalid("page_size"))
        yield Case("a long token", method, kind(page_token="x" * 1025), invalid("page_token"))
        for name, token in (
            ("a token of noise", "%%%%"),
            ("a token of one letter", "x"),
            ("a token of another alphabet", "ключ"),
            ("a token that holds no list", "e30"),
            ("a token of brackets", "W1tb" * 256),
        ):
            yield Case(name, method, kind(page_token=token), refused("RESUME_TOKEN_INVALID"))


def _labels(**labels: str) -> v1.CreateSessionRequest:
    return v1.CreateSessionRequest(labels=labels)


def _update(*paths: str, **fields: object) -> v1.UpdateSessionRequest:
    session = v1.Session(**({"session_id": "good"} | fields))  # type: ignore[arg-type]
    return v1.UpdateSessionRequest(session=session, update_mask=FieldMask(paths=paths))


def _submit(frame: v1.ChatRequest | None, session_id: str = "good") -> v1.SubmitFrameRequest:
    return v1.SubmitFrameRequest(session_id=session_id, client_id="ide", frame=frame)


_NO_SESSION = refused("SESSION_NOT_FOUND")
_REQUESTS: tuple[tuple[str, str, Input, Told], ...] = (
    ("SystemService.GetUsage", "no day", v1.GetUsageRequest(first_day="yesterday"), invalid("first_day")),
    ("SystemService.GetUsage", "a long day", v1.GetUsageRequest(last_day="2026-01-010"), invalid("last_day")),
    ("SystemService.GetUsage", "too many days", v1.GetUsageRequest(first_day="2026-01-01", last_day="2026-02-01"),
     invalid("first_day")),
    ("SystemService.GetUsage", "days that end before they begin",
     v1.GetUsageRequest(first_day="2026-01-02", last_day="2026-01-01"), invalid("first_day")),
    ("AgentService.GetAgent", "an unknown agent", v1.GetAgentRequest(agent_id="nobody"), refused("AGENT_NOT_FOUND")),
    ("AgentService.GetAgent", "an unknown revision", v1.GetAgentRequest(agent_id="coder", revision="r0"),
     refused("AGENT_NOT_FOUND")),
    ("AgentService.GetAgent", "a long revision", v1.GetAgentRequest(agent_id="coder", revision="r" * 65),
     invalid("revision")),
    ("ChatService.SubmitFrame", "no frame", _submit(None), invalid("frame")),
    ("ChatService.SubmitFrame", "an empty frame", _submit(v1.ChatRequest()), refused("UNSUPPORTED_FRAME")),
    ("ChatService.SubmitFrame", "a frame of no kind", _submit(v1.ChatRequest(frame_id="f")),
     refused("UNSUPPORTED_FRAME")),
    ("ChatService.SubmitFrame", "a hello", _submit(v1.ChatRequest(hello=v1.ChatHello(
        session_id="good", client_id="ide", protocol_version=1))), invalid("frame")),
    ("ChatService.SubmitFrame", "a ping", _submit(v1.ChatRequest(ping=v1.Ping(nonce=1))), invalid("frame")),
    ("ChatService.SubmitFrame", "no frame_id", _submit(v1.ChatRequest(user_message=HI.user_message)),
     invalid("frame_id")),
    ("ChatService.SubmitFrame", "an unknown session", _submit(HI, "nowhere"), _NO_SESSION),
    ("ChatService.SubmitFrame", "a closed session", _submit(HI, "closed"), refused("SESSION_CLOSED")),
    ("ChatService.SubmitFrame", "a message without parts",
     _submit(v1.ChatRequest(frame_id="f", user_message=v1.UserMessage())), invalid("frame.user_message.parts")),
    ("EventService.SubscribeEvents", "an unknown session", v1.SubscribeEventsRequest(session_id="nowhere"),
     _NO_SESSION),
    ("EventService.SubscribeEvents", "a negative seq", v1.SubscribeEventsRequest(session_id="good", after_seq=-1),
     invalid("after_seq")),
    ("EventService.SubscribeEvents", "a seq ahead of the log",
     v1.SubscribeEventsRequest(session_id="good", after_seq=1 << 40), refused("SEQ_AHEAD_OF_LOG")),
    ("EventService.SubscribeEvents", "two cursors", v1.SubscribeEventsRequest(session_id="good", resume_token="x"),
     invalid("resume_token")),
    ("EventService.SubscribeEvents", "a seq of no session", v1.SubscribeEventsRequest(after_seq=1),
     invalid("after_seq")),
    ("EventService.SubscribeEvents", "deltas of all sessions", v1.SubscribeEventsRequest(include_deltas=True),
     invalid("include_deltas")),
    ("EventService.SubscribeEvents", "a token of noise", v1.SubscribeEventsRequest(resume_token="%%%"),
     refused("RESUME_TOKEN_INVALID")),
    ("EventService.SubscribeEvents", "a long token", v1.SubscribeEventsRequest(resume_token="x" * 1025),
     invalid("resume_token")),
    ("EventService.SubscribeEvents", "an unknown event", v1.SubscribeEventsRequest(event_types=["shouted"]),
     invalid("event_types[0]")),
    ("EventService.SubscribeEvents", "many events", v1.SubscribeEventsRequest(event_types=["turn_finished"] * 33),
     invalid("event_types")),
    ("HitlService.GetApproval", "an unknown approval", v1.GetApprovalRequest(approval_id="a-1"),
     refused("APPROVAL_NOT_FOUND")),
    ("HitlService.ListApprovals", "an unknown state", v1.ListApprovalsRequest(states=[99]),  # type: ignore[list-item]
     invalid("states[0]")),
    ("HitlService.ListApprovals", "an unknown risk", v1.ListApprovalsRequest(
        filter=v1.ApprovalFilter(min_risk=-5)),  # type: ignore[arg-type]
     invalid("filter.min_risk")),
    ("HitlService.ListApprovals", "many sessions", v1.ListApprovalsRequest(
        filter=v1.ApprovalFilter(session_ids=["s"] * 101)), invalid("filter.session_ids")),
    ("HitlService.DecideApproval", "no decision", v1.DecideApprovalRequest(request_id="r"), invalid("decision")),
    ("HitlService.DecideApproval", "an unknown approval", v1.DecideApprovalRequest(request_id="r", decision=REJECT),
     refused("APPROVAL_NOT_FOUND")),
    ("SessionService.CreateSession", "a request_id that is no UUID", v1.CreateSessionRequest(request_id="1"),
     invalid("request_id")),
    ("SessionService.CreateSession", "capitals in a session_id", v1.CreateSessionRequest(session_id="Mine"),
     invalid("session_id")),
    ("SessionService.CreateSession", "a long session_id", v1.CreateSessionRequest(session_id="a" * 64),
     invalid("session_id")),
    ("SessionService.CreateSession", "an unknown agent", v1.CreateSessionRequest(agent_id="nobody"),
     refused("AGENT_NOT_FOUND")),
    ("SessionService.CreateSession", "a long title", v1.CreateSessionRequest(title="x" * 257), invalid("title")),
    ("SessionService.CreateSession", "U+0000 in a title", v1.CreateSessionRequest(title="\0"), invalid("title")),
    ("SessionService.CreateSession", "many labels", _labels(**{f"k{n}": "" for n in range(33)}), invalid("labels")),
    ("SessionService.CreateSession", "a long label", _labels(k="v" * 257), invalid('labels["k"]')),
    ("SessionService.CreateSession", "U+0000 in a label", _labels(k="\0"), invalid('labels["k"]')),
    ("SessionService.CreateSession", "another agent for a session that is there",
     v1.CreateSessionRequest(session_id="good", agent_id="debug"), refused("IDEMPOTENCY_KEY_REUSED")),
    ("SessionService.GetSession", "an unknown session", v1.GetSessionRequest(session_id="nowhere"), _NO_SESSION),
    ("SessionService.ListSessions", "an unknown state", v1.ListSessionsRequest(states=[0, 7]),  # type: ignore[list-item]
     invalid("states[1]")),
    ("SessionService.ListSessions", "U+0000 in a label", v1.ListSessionsRequest(labels={"a": "\0"}),
     invalid('labels["a"]')),
    ("SessionService.UpdateSession", "nothing", v1.UpdateSessionRequest(), invalid("session")),
    ("SessionService.UpdateSession", "no mask", v1.UpdateSessionRequest(session=v1.Session(session_id="good")),
     invalid("update_mask")),
    ("SessionService.UpdateSession", "an empty mask", _update(), invalid("update_mask.paths")),
    ("SessionService.UpdateSession", "a fixed field", _update("title", "owner"), invalid("update_mask.paths[1]")),
    ("SessionService.UpdateSession", "a long title", _update("title", title="x" * 257), invalid("session.title")),
    ("SessionService.UpdateSession", "an unknown session", _update("title", session_id="nowhere"), _NO_SESSION),
    ("SessionService.UpdateSession", "an old etag", _update("title", title="t", etag="old"), invalid("session.etag")),
    ("SessionService.UpdateSession", "an impossible time",
     _update("expire_time", expire_time=Timestamp(seconds=1 << 62)), invalid("session.expire_time")),
    ("SessionService.CloseSession", "an unknown session", v1.CloseSessionRequest(session_id="nowhere"), _NO_SESSION),
    ("SessionService.CloseSession", "a long reason", v1.CloseSessionRequest(session_id="good", reason="x" * 1025),
     invalid("reason")),
    ("SessionService.ListSessionEvents", "an unknown session", v1.ListSessionEventsRequest(session_id="nowhere"),
     _NO_SESSION),
    ("SessionService.ListSessionEvents", "a negative seq",
     v1.ListSessionEventsRequest(session_id="good", after_seq=-(1 << 63)), invalid("after_seq")),
    ("SessionService.ListSessionEvents", "a seq ahead of the log",
     v1.ListSessionEventsRequest(session_id="good", after_seq=(1 << 63) - 1), refused("SEQ_AHEAD_OF_LOG")),
    ("SessionService.ListSessionEvents", "a negative page",
     v1.ListSessionEventsRequest(session_id="good", page_size=-1), invalid("page_size")),
)  # fmt: skip
