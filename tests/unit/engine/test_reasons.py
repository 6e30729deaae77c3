"""Each event of a log says in half a sentence why it stands there, whatever was recorded with it."""

import pytest

from agent_runtime import v1
from agent_runtime_server.agents.registry import builtin
from agent_runtime_server.engine.reasons import why
from agent_runtime_server.engine.state import State

NAMED = v1.Actor(kind=v1.ACTOR_KIND_USER, subject="ann")
WAITS = v1.ToolCall(call_id="c2", tool_name="run_command", depends_on_call_ids=["c1"])
FOREVER = v1.Approval(policy_rules=["commands ask"])
APPROVES = v1.Approval(policy_rules=["commands ask"], timeout_action=v1.APPROVAL_TIMEOUT_ACTION_APPROVE)
APPROVES.expire_time.FromSeconds(0)
WITHDRAWN = v1.Approval(state=v1.APPROVAL_STATE_CANCELLED)
LATE = v1.Approval(state=v1.APPROVAL_STATE_EXPIRED)
LATE.expire_time.FromSeconds(0)
DECIDED = v1.Approval(decided_by=NAMED, decision=v1.ApprovalDecision(comment="go"))
ROUTED = v1.RoutingDecided(
    source=v1.ROUTING_SOURCE_MODEL, confidence=v1.ROUTING_CONFIDENCE_HIGH, reasoning="it is about code"
)
OURS = v1.ToolResult(source=v1.ToolResult.SOURCE_SERVER)
FAILED = v1.TurnFinished(state=v1.TURN_STATE_FAILED, error=v1.Error(reason="INTERNAL", message="a bug"))
CANCELLED = v1.TurnFinished(state=v1.TURN_STATE_CANCELLED)
PARKED = v1.TurnParked(error=v1.Error(reason="MODEL_UNAVAILABLE", message="no answer"))
BUDGET = v1.Question(budget=v1.BudgetUse(budget="turn.tokens", used=8, limit=10))
ELSEWHERE = v1.ToolCallDispatched(tool_call=WAITS)
MOMENT = "1970-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (v1.SessionEvent(turn_started=v1.TurnStarted()), "no turn runs and this message is next"),
        (v1.SessionEvent(routing_decided=ROUTED), "the model chose; high confidence; it is about code"),
        (v1.SessionEvent(routing_decided=v1.RoutingDecided(reasoning="so")), "so"),
        (
            v1.SessionEvent(tool_call_proposed=v1.ToolCallProposed(tool_call=WAITS)),
            "the model asked for it; it waits for c1",
        ),
        (
            v1.SessionEvent(tool_call_dispatched=ELSEWHERE),
            f"what it waited for is done: c1; its result is due {MOMENT}",
        ),
        (
            v1.SessionEvent(approval_requested=v1.ApprovalRequested(approval=FOREVER)),
            "policy: commands ask; it waits until somebody decides",
        ),
        (
            v1.SessionEvent(approval_requested=v1.ApprovalRequested(approval=APPROVES)),
            f"policy: commands ask; approved when nobody decides at {MOMENT}",
        ),
        (v1.SessionEvent(approval_resolved=v1.ApprovalResolved(approval=DECIDED)), "ann decided: go"),
        (v1.SessionEvent(approval_resolved=v1.ApprovalResolved(approval=WITHDRAWN)), "what asked for it is over"),
        (
            v1.SessionEvent(approval_resolved=v1.ApprovalResolved(approval=LATE)),
            f"nobody decided before {MOMENT}; expired when nobody decides",
        ),
        (v1.SessionEvent(tool_call_completed=v1.ToolCallCompleted(client_id="ide")), "ide says so"),
        (v1.SessionEvent(tool_call_completed=v1.ToolCallCompleted(result=OURS)), "the runtime ran it"),
        (v1.SessionEvent(assistant_message=v1.AssistantMessage()), "attempt_completion said it"),
        (v1.SessionEvent(question_asked=v1.QuestionAsked()), ""),
        (
            v1.SessionEvent(question_asked=v1.QuestionAsked(question=BUDGET)),
            "8 of 10 of the budget turn.tokens are used",
        ),
        (v1.SessionEvent(turn_cancel_requested=v1.TurnCancelRequested(), actor=NAMED), "ann asked for it"),
        (v1.SessionEvent(turn_finished=FAILED), "INTERNAL: a bug"),
        (v1.SessionEvent(turn_finished=CANCELLED), "it was cancelled, and no call is open"),
        (
            v1.SessionEvent(turn_parked=PARKED),
            f"MODEL_UNAVAILABLE: no answer; tried again after {MOMENT}, given up at {MOMENT}",
        ),
        (v1.SessionEvent(turn_resumed=v1.TurnResumed()), "a model may answer again"),
        (v1.SessionEvent(user_message=v1.UserMessage()), ""),
    ],
)
def test_an_event_has_its_reason(event: v1.SessionEvent, reason: str) -> None:
    assert why(event, State("s1"), builtin()) == reason
