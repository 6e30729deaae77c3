"""Contract messages in a line each, for the tests of the terminal."""

import json

from agent_runtime import v1
from agent_runtime_client import Event


def call(
    name: str, *, call_id: str = "c1", effect: "v1.ToolEffect.ValueType" = v1.TOOL_EFFECT_READ, **arguments: object
) -> v1.ToolCall:
    return v1.ToolCall(
        call_id=call_id, tool_name=name, arguments_json=json.dumps(arguments), effect=effect, risk=v1.RISK_LEVEL_MEDIUM
    )


def approval(tool_call: v1.ToolCall, *, approval_id: str = "a1", turn_id: str = "t1") -> v1.Approval:
    return v1.Approval(
        approval_id=approval_id,
        session_id="s1",
        turn_id=turn_id,
        tool_call=tool_call,
        revision=1,
        state=v1.APPROVAL_STATE_PENDING,
    )


def asked(tool_call: v1.ToolCall, approval_id: str = "a1", *, seq: int = 0) -> Event:
    request = v1.ApprovalRequested(approval=approval(tool_call, approval_id=approval_id))
    return Event(v1.SessionEvent(seq=seq, turn_id="t1", approval_requested=request))


def resolved(tool_call: v1.ToolCall, state: "v1.ApprovalState.ValueType", approval_id: str = "a1") -> Event:
    done = approval(tool_call, approval_id=approval_id)
    done.state = state
    return Event(v1.SessionEvent(turn_id="t1", approval_resolved=v1.ApprovalResolved(approval=done)))


def said_by_user(text: str, *, turn_id: str = "t1", seq: int = 1) -> Event:
    message = v1.UserMessage(parts=[v1.Part(text=text)])
    return Event(v1.SessionEvent(seq=seq, turn_id=turn_id, user_message=message))


def answered(text: str, *, message_id: str = "m1", reasoning: str = "") -> Event:
    message = v1.AssistantMessage(message_id=message_id, agent_id="coder", parts=[v1.Part(text=text)])
    if reasoning:
        message.reasoning.add(text=reasoning)
    return Event(v1.SessionEvent(turn_id="t1", assistant_message=message))


def finished(state: "v1.TurnState.ValueType" = v1.TURN_STATE_COMPLETED, *, turn_id: str = "t1") -> Event:
    return Event(v1.SessionEvent(turn_id=turn_id, turn_finished=v1.TurnFinished(state=state)))


def completed(call_id: str, text: str = "", error: str = "") -> Event:
    status = v1.ToolResult.STATUS_FAILED if error else v1.ToolResult.STATUS_SUCCEEDED
    result = v1.ToolResult(call_id=call_id, status=status, content=[v1.Part(text=text)], error_message=error)
    return Event(v1.SessionEvent(turn_id="t1", tool_call_completed=v1.ToolCallCompleted(result=result)))


def proposed(tool_call: v1.ToolCall) -> Event:
    return Event(v1.SessionEvent(turn_id="t1", tool_call_proposed=v1.ToolCallProposed(tool_call=tool_call)))


def dispatched(tool_call: v1.ToolCall, approval_id: str = "") -> Event:
    order = v1.ToolCallDispatched(tool_call=tool_call, approval_id=approval_id)
    return Event(v1.SessionEvent(turn_id="t1", tool_call_dispatched=order))


def handed_over(from_agent: str, to_agent: str) -> Event:
    moved = v1.AgentHandoff(from_agent_id=from_agent, to_agent_id=to_agent, reason="because")
    return Event(v1.SessionEvent(turn_id="t1", agent_handoff=moved))


def routed(agent_id: str) -> Event:
    decided = v1.RoutingDecided(
        agent_id=agent_id,
        confidence=v1.ROUTING_CONFIDENCE_HIGH,
        source=v1.ROUTING_SOURCE_MODEL,
        reasoning="because",
    )
    return Event(v1.SessionEvent(turn_id="t1", routing_decided=decided))
