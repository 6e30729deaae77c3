"""What runners bring back to events: a choice of agent, a model's answer, a failure, a take-over."""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Protocol

from agent_runtime import v1
from agent_runtime_server.agents.definition import Agent
from agent_runtime_server.agents.routing import Route as Choice
from agent_runtime_server.agents.step import offered_to
from agent_runtime_server.core.clock import after, from_nanos
from agent_runtime_server.core.errors import ModelUnavailable, ServiceError
from agent_runtime_server.engine.draft import Draft, agent_actor
from agent_runtime_server.engine.limits import ACTIONS
from agent_runtime_server.engine.settle import ASK_QUESTION, choose, fail
from agent_runtime_server.hitl.policy import Ruling, Verdict, judge
from agent_runtime_server.llm.base import ModelAnswer, RequestedCall
from agent_runtime_server.tools import arguments, catalogue
from agent_runtime_server.tools.dependencies import dependencies

_SECOND: Final = 1_000_000_000
_BROKEN_ANSWERS: Final = 3  # of one step, before it waits for a model
_LONGEST_BACKOFF: Final = 30.0  # seconds before a turn that was parked in vain is tried again
_LONGEST_TEXT: Final = 1 << 20  # bytes of a Part
_NONE: Final[Mapping[int, str]] = {}


class StepIds(Protocol):
    """Names what a step makes before it is committed, so that its deltas and its events agree."""

    @property
    def message_id(self) -> str:
        """Id of the message."""
        ...

    def call_id(self, index: int) -> str:
        """Return the id of the call at `index` of the answer."""
        ...


@dataclass(frozen=True, slots=True)
class _Proposal:
    """A call the model asked for: what is recorded, and either why it is refused or how policy rules."""

    call: v1.ToolCall
    arguments: arguments.Arguments
    refusal: str = ""
    verdict: Verdict | None = None


def routed(draft: Draft, choice: Choice) -> None:
    """Note which agent was chosen."""
    decided = v1.RoutingDecided(
        agent_id=choice.agent_id,
        confidence=choice.confidence,
        probability=choice.probability,
        source=choice.source,
        reasoning=choice.reasoning,
        usage=choice.usage,
    )
    choose(draft, decided)


def recovered(draft: Draft, cause: "v1.TurnRecovered.Cause.ValueType") -> None:
    """Void what the turn's owner before has streamed."""
    event = v1.SessionEvent(turn_recovered=v1.TurnRecovered(attempt=draft.turn.attempt + 1, cause=cause))
    draft.add(event, turn_id=draft.turn.turn_id)


def unavailable(draft: Draft, error: ModelUnavailable) -> None:
    """Let the turn wait for a model; end it when it has waited long enough."""
    turn = draft.turn
    left = draft.limits.park_seconds - turn.parked_nanos / _SECOND
    if left <= 0:
        fail(draft, error)
        return
    asked = error.retry_delay.total_seconds() if error.retry_delay is not None else 0
    backoff = min(_LONGEST_BACKOFF, 2 ** (turn.parks - 1)) if turn.parks else 0
    now = from_nanos(draft.now_nanos)
    parked = v1.TurnParked(
        error=error.to_error(), retry_time=after(now, max(asked, backoff)), deadline=after(now, left)
    )
    draft.add(v1.SessionEvent(turn_parked=parked), turn_id=turn.turn_id)


def broke_off(draft: Draft, error: ModelUnavailable) -> None:
    """Void what was shown of an answer that broke off, so that the step is taken once more."""
    recovered(draft, v1.TurnRecovered.CAUSE_MODEL_RETRY)
    if draft.turn.broken > _BROKEN_ANSWERS:
        unavailable(draft, error)


def failed(draft: Draft, error: ServiceError) -> None:
    """End the turn because its step could not be taken."""
    fail(draft, error)


def answered(
    draft: Draft, agent: Agent, ids: StepIds, answer: ModelAnswer, *, refused: Mapping[int, str] = _NONE
) -> None:
    """Record a model's answer, its calls, and what becomes of each; one without calls ends the turn.

    `refused` says of calls, by their index, why they are not run for what this session does not know: the day's
    budget, or, in a recording, arguments that could not be read, for a log keeps no such arguments.
    """
    turn_id = draft.turn.turn_id
    actor = agent_actor(agent.agent_id)
    step_id = draft.new_id("step")
    message = v1.AssistantMessage(
        message_id=ids.message_id, agent_id=agent.agent_id, usage=answer.usage, step_id=step_id, model=answer.model[:64]
    )
    if answer.text:
        message.parts.add(text=_fitting(answer.text))
    if answer.reasoning:
        message.reasoning.add(text=_fitting(answer.reasoning))
    draft.add(v1.SessionEvent(assistant_message=message), turn_id=turn_id, actor=actor)
    if not answer.calls:
        if not draft.turn.steering:  # else the next step hears what the user said meanwhile
            draft.finish(v1.TURN_STATE_COMPLETED)
        return
    proposals = _proposals(draft, agent, step_id, ids, answer.calls, refused)
    for proposal in proposals:
        event = v1.SessionEvent(tool_call_proposed=v1.ToolCallProposed(tool_call=proposal.call))
        draft.add(event, turn_id=turn_id, actor=actor)
    for proposal in proposals:
        _rule(draft, actor, proposal)


def _proposals(
    draft: Draft,
    agent: Agent,
    step_id: str,
    ids: StepIds,
    requested: tuple[RequestedCall, ...],
    refused: Mapping[int, str],
) -> list[_Proposal]:
    offered = offered_to(agent, draft.state.tools)
    proposals = []
    for index, call in enumerate(requested):
        refusal = _one_too_many(draft, index) or refused.get(index, "")
        blank = v1.ToolCall(call_id=ids.call_id(index), step_id=step_id, tool_name=_tool_name(call.name))
        proposals.append(_propose(agent, offered, blank, call, refusal))
    wanted = [(proposal.call, proposal.arguments) for proposal in proposals if not proposal.refusal]
    for (call_to_run, _), waits_for in zip(wanted, dependencies(wanted), strict=True):
        call_to_run.depends_on_call_ids.extend(waits_for)
    return proposals


def _one_too_many(draft: Draft, index: int) -> str:
    """Return why an answer's call is beyond what is allowed, if it is."""
    limits = draft.limits
    if index >= limits.calls_per_step:
        return f"an answer may have {limits.calls_per_step} calls"
    if 0 < limits.budget.tool_calls <= draft.turn.tool_calls + index:
        return f"the turn had its {limits.budget.tool_calls} tool calls"
    if 0 < limits.budget.session_tool_calls <= draft.state.tool_calls + draft.turn.tool_calls + index:
        return f"the session had its {limits.budget.session_tool_calls} tool calls"
    return ""


def _propose(
    agent: Agent,
    offered: Mapping[str, v1.ToolSpec],
    call: v1.ToolCall,
    requested: RequestedCall,
    refusal: str,
) -> _Proposal:
    """Check one call against its schema and against policy."""
    spec = offered.get(requested.name)
    call.executor = v1.TOOL_EXECUTOR_CLIENT
    if catalogue.is_server(requested.name):
        call.executor = v1.TOOL_EXECUTOR_SERVER
    parsed: arguments.Arguments = {}
    text, refused = "{}", refusal
    verdict = None
    if not refused and spec is None:
        refused = f"there is no tool {call.tool_name!r} here; there are {', '.join(offered)}"
    try:
        parsed = arguments.parse(requested.arguments_json or "{}")
        text = requested.arguments_json or "{}"
    except arguments.BadArguments as error:
        refused = refused or str(error)
    if not refused and spec is not None:
        call.effect = spec.effect
        refused = arguments.check(spec, text) or ""
    if not refused and spec is not None and call.executor == v1.TOOL_EXECUTOR_CLIENT:
        verdict = judge(agent, spec, parsed, standard=catalogue.is_standard(spec.name))
        call.risk = verdict.risk
        refused = verdict.reason if verdict.ruling is Ruling.DENY else ""
    call.arguments_json = text
    call.arguments_sha256 = sha256(text.encode()).hexdigest()
    return _Proposal(call, parsed, refused, verdict)


def _fitting(text: str) -> str:
    """Return the text, cut to what a part may hold."""
    encoded = text.encode()
    return text if len(encoded) <= _LONGEST_TEXT else encoded[:_LONGEST_TEXT].decode(errors="ignore")


def _tool_name(name: str) -> str:
    """Return a name that can stand in the log, whatever the model wrote."""
    kept = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "_.-") else "_" for letter in name)
    return kept[:64] or "unnamed"


def _rule(draft: Draft, actor: v1.Actor, proposal: _Proposal) -> None:
    """Refuse a proposal, ask a human, ask the user, or leave it to be dispatched."""
    call = draft.turn.calls[proposal.call.call_id]
    if proposal.refusal:
        denied = proposal.verdict is not None
        status = v1.ToolResult.STATUS_REJECTED if denied else v1.ToolResult.STATUS_FAILED
        draft.complete(call, status, error=proposal.refusal)
    elif proposal.call.tool_name == ASK_QUESTION:
        _ask(draft, actor, proposal)
    elif proposal.verdict is not None and proposal.verdict.ruling is Ruling.ASK:
        _request_approval(draft, actor, proposal, proposal.verdict)


def _ask(draft: Draft, actor: v1.Actor, proposal: _Proposal) -> None:
    """Put the question to the user; one at a time."""
    turn = draft.turn
    if turn.question is not None:
        call = turn.calls[proposal.call.call_id]
        draft.complete(call, v1.ToolResult.STATUS_FAILED, error="ask one question at a time")
        return
    options = proposal.arguments.get("options") or []
    question = v1.Question(
        question_id=draft.new_id("question"),
        call_id=proposal.call.call_id,
        agent_id=actor.subject,
        text=str(proposal.arguments["question"]),
    )
    if isinstance(options, list):
        for number, label in enumerate(options, start=1):
            question.options.add(option_id=str(number), label=str(label))
    event = v1.SessionEvent(question_asked=v1.QuestionAsked(question=question))
    draft.add(event, turn_id=turn.turn_id, actor=actor)


def _request_approval(draft: Draft, actor: v1.Actor, proposal: _Proposal, verdict: Verdict) -> None:
    now = from_nanos(draft.now_nanos)
    approval = v1.Approval(
        approval_id=draft.new_id("approval"),
        session_id=draft.state.session_id,
        turn_id=draft.turn.turn_id,
        tool_call=proposal.call,
        revision=1,
        state=v1.APPROVAL_STATE_PENDING,
        policy_rules=verdict.rules,
        requester=actor,
        create_time=now,
        timeout_action=ACTIONS[draft.limits.approval_action],
    )
    if draft.limits.approval_action != "wait":
        approval.expire_time.CopyFrom(after(now, draft.limits.approval_seconds))
    event = v1.SessionEvent(approval_requested=v1.ApprovalRequested(approval=approval))
    draft.add(event, turn_id=draft.turn.turn_id, actor=actor)
