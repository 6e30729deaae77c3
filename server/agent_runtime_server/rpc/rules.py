"""The one table of field rules: what a caller may put into each field of a request or frame.

It says what the `Rules:` comments of the protos say (a test holds the two together), and the few things beyond
them, which are the last four attributes of `Rule`. Rules over several fields stand in cross_rules.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

IDENTIFIER: Final = r"[A-Za-z0-9._:-]+"
FRAME_ID: Final = "^[A-Za-z0-9_-]*$"
SHA256_OR_EMPTY: Final = "^([0-9a-f]{64})?$"
MEBIBYTE: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Rules of one field; an attribute left out demands nothing."""

    required: bool = False
    min_len: int | None = None
    max_len: int | None = None
    max_bytes: int | None = None
    pattern: str | None = None
    uuid: bool = False
    min_items: int | None = None
    max_items: int | None = None
    max_pairs: int | None = None
    gt: int | None = None
    gte: int | None = None
    lte: int | None = None
    defined: bool = False
    specified: bool = False
    # Beyond the comments of the protos:
    identifier: bool = False
    json_object: bool = False
    not_negative: bool = False
    pair_max_bytes: int | None = None


ID: Final = Rule(min_len=1, max_len=64, identifier=True)
OPTIONAL_ID: Final = Rule(max_len=64, identifier=True)
DEFINED: Final = Rule(defined=True)
SPECIFIED: Final = Rule(defined=True, specified=True)
NOT_NEGATIVE: Final = Rule(gte=0)
TOKEN: Final = Rule(max_len=1024)
REQUIRED: Final = Rule(required=True)

RULES: Final[Mapping[str, Mapping[str, Rule]]] = {
    # agent_service.proto
    "GetAgentRequest": {"agent_id": ID, "revision": Rule(max_len=64)},
    "ListAgentsRequest": {"page_size": NOT_NEGATIVE, "page_token": TOKEN},
    # approval.proto
    "ApprovalDecision": {
        "approval_id": ID,
        "expected_revision": NOT_NEGATIVE,
        "arguments_sha256": Rule(pattern=SHA256_OR_EMPTY),
        "verdict": SPECIFIED,
        "edited_arguments_json": Rule(max_bytes=MEBIBYTE),
        "comment": Rule(max_bytes=8192),
        "scope": DEFINED,
    },
    # audit_service.proto
    "GetAuditRecordRequest": {"record_id": ID},
    "ListAuditRecordsRequest": {
        "page_size": NOT_NEGATIVE,
        "page_token": TOKEN,
        "session_id": OPTIONAL_ID,
        "actor_subject": Rule(max_len=256),
        "actions": Rule(max_items=32),
    },
    # chat_service.proto
    "CancelTurn": {"turn_id": OPTIONAL_ID, "reason": Rule(max_len=1024)},
    "ChatHello": {
        "session_id": ID,
        "client_id": ID,
        "after_seq": NOT_NEGATIVE,
        "role": DEFINED,
        "tools": Rule(max_items=128),
        "protocol_version": Rule(gte=1),
        "features": Rule(max_items=32),
        "max_unacked_events": Rule(gte=0, lte=10_000),
        "user_agent": Rule(max_len=256),
    },
    "ChatRequest": {"frame_id": Rule(max_len=64, pattern=FRAME_ID)},
    "EventAck": {"seq": Rule(gt=0)},
    "SubmitFrameRequest": {"session_id": ID, "client_id": ID, "frame": REQUIRED},
    "SwitchAgent": {"agent_id": ID, "reason": Rule(max_len=1024)},
    "ToolProgress": {"call_id": ID, "text": Rule(max_bytes=65_536)},
    "UpdateTools": {"tools": Rule(max_items=128)},
    # common.proto
    "Actor": {"kind": DEFINED, "subject": Rule(max_len=256), "display_name": Rule(max_len=256)},
    "Error": {
        "code": Rule(gte=1, lte=16),
        "reason": Rule(max_len=63, pattern="^[A-Z][A-Z0-9_]*[A-Z0-9]$"),
        "message": Rule(max_len=2048),
        "metadata": Rule(max_pairs=32),
        "field_violations": Rule(max_items=64),
    },
    "Part": {
        "media_type": Rule(max_len=255),
        "name": Rule(max_len=1024),
        "text": Rule(max_bytes=MEBIBYTE),
        "json": Rule(max_bytes=MEBIBYTE),
        "data": Rule(max_len=MEBIBYTE),
        "uri": Rule(max_len=4096),
    },
    "Usage": {
        "input_tokens": NOT_NEGATIVE,
        "output_tokens": NOT_NEGATIVE,
        "cached_input_tokens": NOT_NEGATIVE,
        "reasoning_tokens": NOT_NEGATIVE,
        "model_calls": NOT_NEGATIVE,
        "cost_micros": NOT_NEGATIVE,
        "tool_calls": NOT_NEGATIVE,
        "worked_millis": NOT_NEGATIVE,
    },
    # event.proto
    "SessionEvent": {"seq": Rule(gt=0)},
    "ToolCallStarted": {"call_id": ID},
    "UserMessage": {
        "parts": Rule(min_items=1, max_items=32),
        "agent_id": OPTIONAL_ID,
        "context": Rule(max_items=64),
        "question_id": OPTIONAL_ID,
        "option_ids": Rule(max_items=16, identifier=True),
        "delivery": DEFINED,
    },
    # event_service.proto
    "SubscribeEventsRequest": {
        "session_id": OPTIONAL_ID,
        "after_seq": NOT_NEGATIVE,
        "resume_token": TOKEN,
        "event_types": Rule(max_items=32),
    },
    # hitl_service.proto
    "ApprovalClaim": {"approval_id": ID},
    "ApprovalFilter": {
        "session_ids": Rule(max_items=100, identifier=True),
        "agent_ids": Rule(max_items=100, identifier=True),
        "min_risk": DEFINED,
    },
    "ApprovalRelease": {"approval_id": ID},
    "DecideApprovalRequest": {"request_id": ID, "decision": REQUIRED},
    "GetApprovalRequest": {"approval_id": ID},
    "HitlHello": {
        "client_id": ID,
        "resume_token": TOKEN,
        "protocol_version": Rule(gte=1),
        "features": Rule(max_items=32),
    },
    "HitlRequest": {"frame_id": Rule(max_len=64, pattern=FRAME_ID)},
    "ListApprovalsRequest": {"page_size": NOT_NEGATIVE, "page_token": TOKEN, "states": DEFINED},
    # session.proto, as UpdateSession takes it
    "Session": {
        "session_id": OPTIONAL_ID,
        "title": Rule(max_len=256),
        "labels": Rule(max_pairs=32, pair_max_bytes=256),
    },
    # session_service.proto
    "CloseSessionRequest": {"session_id": ID, "reason": Rule(max_len=1024)},
    "CreateSessionRequest": {
        "request_id": Rule(uuid=True),
        "session_id": Rule(pattern="^([a-z0-9][a-z0-9-]{0,62})?$"),
        "agent_id": OPTIONAL_ID,
        "title": Rule(max_len=256),
        "labels": Rule(max_pairs=32, pair_max_bytes=256),
    },
    "GetSessionRequest": {"session_id": ID},
    "ForkSessionRequest": {
        "request_id": Rule(uuid=True),
        "session_id": ID,
        "at_seq": NOT_NEGATIVE,
        "new_session_id": Rule(pattern="^([a-z0-9][a-z0-9-]{0,62})?$"),
        "title": Rule(max_len=256),
    },
    "GetUsageRequest": {"first_day": Rule(max_len=10), "last_day": Rule(max_len=10)},
    "ListSessionEventsRequest": {"session_id": ID, "after_seq": NOT_NEGATIVE, "page_size": NOT_NEGATIVE},
    "ListSessionsRequest": {
        "page_size": NOT_NEGATIVE,
        "page_token": TOKEN,
        "states": DEFINED,
        "labels": Rule(pair_max_bytes=256),
    },
    "UpdateSessionRequest": {"session": REQUIRED, "update_mask": REQUIRED},
    # tool.proto
    "ToolCall": {
        "call_id": ID,
        "step_id": OPTIONAL_ID,
        "tool_name": Rule(min_len=1, max_len=64),
        "arguments_json": Rule(max_bytes=MEBIBYTE),
        "arguments_sha256": Rule(pattern=SHA256_OR_EMPTY),
        "depends_on_call_ids": Rule(max_items=128),
    },
    "ToolResult": {
        "call_id": ID,
        "status": SPECIFIED,
        "content": Rule(max_items=64),
        "error_message": Rule(max_bytes=16_384),
        "original_size_bytes": NOT_NEGATIVE,
        "source": DEFINED,
    },
    "ToolSpec": {
        "name": Rule(pattern="^[a-zA-Z_][a-zA-Z0-9_.-]{0,63}$"),
        "description": Rule(max_bytes=16_384),
        "input_schema_json": Rule(max_bytes=65_536, json_object=True),
        "risk": DEFINED,
        "timeout": Rule(not_negative=True),
        "effect": DEFINED,
    },
}
"""Rules by message of the package agent_runtime.v1, then by field."""
