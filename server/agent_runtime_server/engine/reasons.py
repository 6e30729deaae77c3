"""Why an event stands in a log: the rule, the source, the deadline or the limit behind it, in half a sentence."""

from collections.abc import Callable, Mapping
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from agent_runtime import v1
from agent_runtime_server.agents.registry import Registry
from agent_runtime_server.engine.limits import of_turn
from agent_runtime_server.engine.state import State
from agent_runtime_server.hitl.policy import judge
from agent_runtime_server.tools import arguments, catalogue


def why(event: v1.SessionEvent, state: State, agents: Registry) -> str:
    """Return the reason of an event, empty when it speaks for itself; `state` is the one it led to."""
    tell = _REASONS.get(event.WhichOneof("payload") or "")
    if tell is not None:
        return tell(event)
    if event.HasField("tool_call_dispatched"):
        return _dispatched(event.tool_call_dispatched, state, agents)
    return ""


def _dispatched(order: v1.ToolCallDispatched, state: State, agents: Registry) -> str:
    reasons = [f"approved as {order.approval_id}" if order.approval_id else _ruling(order.tool_call, state, agents)]
    if order.tool_call.depends_on_call_ids:
        reasons.append(f"what it waited for is done: {', '.join(order.tool_call.depends_on_call_ids)}")
    reasons.append(f"its result is due {_moment(order.deadline)}")
    return "; ".join(reason for reason in reasons if reason)


def _ruling(call: v1.ToolCall, state: State, agents: Registry) -> str:
    """Return the rules of the policy that let a call run without asking."""
    spec, agent = catalogue.offered(state.tools).get(call.tool_name), agents.find(state.agent_id)
    if spec is None or agent is None:
        return ""
    standard = catalogue.is_standard(spec.name)
    return f"policy: {', '.join(judge(agent, spec, arguments.parse(call.arguments_json), standard=standard).rules)}"


def _started(event: v1.SessionEvent) -> str:
    limits = of_turn(event.turn_started)
    if limits is None:
        return "no turn runs and this message is next"
    return (
        f"no turn runs and this message is next; bounded by {limits.turn_seconds:g} s, {limits.turn_steps} steps, "
        f"{limits.turn_handoffs} handoffs"
    )


_SOURCES: Final[Mapping["v1.RoutingSource.ValueType", str]] = {
    v1.ROUTING_SOURCE_MODEL: "the model chose",
    v1.ROUTING_SOURCE_CACHE: "the model chose so before",
    v1.ROUTING_SOURCE_FALLBACK: "the local classifier chose, for the model was unusable",
    v1.ROUTING_SOURCE_EXPLICIT: "the user named the agent",
    v1.ROUTING_SOURCE_STICKY: "the session's agent goes on",
}


def _routed(event: v1.SessionEvent) -> str:
    decided = event.routing_decided
    reasons = [_SOURCES.get(decided.source, "")]
    if decided.confidence:
        sure = v1.RoutingConfidence.Name(decided.confidence).removeprefix("ROUTING_CONFIDENCE_").lower()
        reasons.append(f"{sure} confidence")
    reasons.append(decided.reasoning)
    return "; ".join(reason for reason in reasons if reason)


def _proposed(event: v1.SessionEvent) -> str:
    waits_for = event.tool_call_proposed.tool_call.depends_on_call_ids
    return f"the model asked for it; it waits for {', '.join(waits_for)}" if waits_for else "the model asked for it"


def _requested(event: v1.SessionEvent) -> str:
    approval = event.approval_requested.approval
    rules = f"policy: {', '.join(approval.policy_rules)}"
    if not approval.HasField("expire_time"):
        return f"{rules}; it waits until somebody decides"
    return f"{rules}; {_action(approval)} at {_moment(approval.expire_time)}"


def _action(approval: v1.Approval) -> str:
    approves = approval.timeout_action == v1.APPROVAL_TIMEOUT_ACTION_APPROVE
    return "approved when nobody decides" if approves else "expired when nobody decides"


def _resolved(event: v1.SessionEvent) -> str:
    approval = event.approval_resolved.approval
    if approval.HasField("decision"):
        said = f": {approval.decision.comment}" if approval.decision.comment else ""
        return f"{approval.decided_by.subject} decided{said}"
    if approval.state == v1.APPROVAL_STATE_CANCELLED:
        return "what asked for it is over"
    return f"nobody decided before {_moment(approval.expire_time)}; {_action(approval)}"


def _completed(event: v1.SessionEvent) -> str:
    result, client_id = event.tool_call_completed.result, event.tool_call_completed.client_id
    if result.source != v1.ToolResult.SOURCE_SERVER:
        return f"{client_id or 'the client'} says so"
    return result.error_message or "the runtime ran it"


def _answered(event: v1.SessionEvent) -> str:
    message = event.assistant_message
    if not message.step_id:
        return "attempt_completion said it"
    return f"the model's answer to step {message.step_id}"


def _asked(event: v1.SessionEvent) -> str:
    use = event.question_asked.question.budget
    return f"{use.used} of {use.limit} of the budget {use.budget} are used" if use.budget else ""


def _finished(event: v1.SessionEvent) -> str:
    finished = event.turn_finished
    if finished.state == v1.TURN_STATE_FAILED:
        return f"{finished.error.reason}: {finished.error.message}"
    if finished.state == v1.TURN_STATE_CANCELLED:
        return "it was cancelled, and no call is open"
    return "the answer asks for nothing more"


def _recovered(event: v1.SessionEvent) -> str:
    cause = v1.TurnRecovered.Cause.Name(event.turn_recovered.cause).removeprefix("CAUSE_")
    return f"{cause.replace('_', ' ').lower()}; what attempt {event.turn_recovered.attempt - 1} streamed is void"


def _parked(event: v1.SessionEvent) -> str:
    parked = event.turn_parked
    until = f"tried again after {_moment(parked.retry_time)}, given up at {_moment(parked.deadline)}"
    return f"{parked.error.reason}: {parked.error.message}; {until}"


def _moment(moment: Timestamp) -> str:
    return moment.ToJsonString().partition(".")[0].rstrip("Z") + "Z"


_REASONS: Final[Mapping[str, Callable[[v1.SessionEvent], str]]] = {
    "turn_started": _started,
    "routing_decided": _routed,
    "agent_handoff": lambda event: event.agent_handoff.reason,
    "assistant_message": _answered,
    "tool_call_proposed": _proposed,
    "question_asked": _asked,
    "approval_requested": _requested,
    "approval_resolved": _resolved,
    "tool_call_completed": _completed,
    "turn_cancel_requested": lambda event: event.turn_cancel_requested.reason or f"{event.actor.subject} asked for it",
    "turn_finished": _finished,
    "turn_recovered": _recovered,
    "turn_parked": _parked,
    "turn_resumed": lambda _: "a model may answer again",
    "steering_seen": lambda event: f"said while the turn ran; step {event.steering_seen.step_number} is next",
}
