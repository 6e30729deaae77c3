"""Events and frames that tests make up."""

import hashlib
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from agent_runtime import v1

TURN = "turn-1"


def event(seq: int, *, frame_id: str = "", turn_id: str = TURN, **payload: Any) -> v1.SessionEvent:
    """Return an event; without a payload one of a kind this build does not know."""
    return v1.SessionEvent(
        seq=seq, session_id="s1", turn_id=turn_id, frame_id=frame_id, create_time=Timestamp(seconds=1000), **payload
    )


def call(call_id: str, tool: str = "touch", arguments: str = "{}") -> v1.ToolCall:
    """Return a call for the client."""
    return v1.ToolCall(
        call_id=call_id,
        tool_name=tool,
        arguments_json=arguments,
        arguments_sha256=hashlib.sha256(arguments.encode()).hexdigest(),
        executor=v1.TOOL_EXECUTOR_CLIENT,
    )


def dispatched(seq: int, tool_call: v1.ToolCall, *, seconds: int = 60) -> v1.SessionEvent:
    """Return the order to run a call, `seconds` before its deadline."""
    order = v1.ToolCallDispatched(tool_call=tool_call, deadline=Timestamp(seconds=1000 + seconds))
    return event(seq, tool_call_dispatched=order)


def completed(seq: int, call_id: str) -> v1.SessionEvent:
    """Return the end of a call."""
    result = v1.ToolResult(call_id=call_id, status=v1.ToolResult.STATUS_SUCCEEDED)
    return event(seq, tool_call_completed=v1.ToolCallCompleted(result=result))


def started(seq: int, call_id: str, client_id: str, *, frame_id: str = "") -> v1.SessionEvent:
    """Return the word that a client began a call."""
    begun = v1.ToolCallStarted(call_id=call_id, client_id=client_id)
    return event(seq, frame_id=frame_id, tool_call_started=begun)


def cancel_requested(seq: int) -> v1.SessionEvent:
    """Return the word that the turn shall stop."""
    return event(seq, turn_cancel_requested=v1.TurnCancelRequested())
