"""Events as lines for people: what a session shows while it goes on."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from rich.text import Text

from agent_runtime import v1
from agent_runtime_client.terminal import calls, names
from agent_runtime_client.terminal.text import clean, count, shorten

# What these do is told by the events that follow from them.
_TOLD_OTHERWISE: Final = frozenset({"switch_agent", "ask_followup_question", "attempt_completion"})
_OUTPUT_LINES: Final = 8


def quiet(text: str) -> Text:
    """A remark."""
    return Text(text, "dim")


def user_message(message: v1.UserMessage) -> Text:
    """What the user said."""
    said = clean(calls.parts_text(message.parts))
    chosen = f" [{', '.join(shorten(option, 40) for option in message.option_ids)}]" if message.option_ids else ""
    return Text.assemble(("» ", "bold cyan"), (said + chosen, "bold"))


def routing(decided: v1.RoutingDecided) -> Text:
    """Who answers and why."""
    text = Text.assemble(("⇢ ", "magenta"), (shorten(decided.agent_id, 64), "bold magenta"), " answers ")
    text.append(f"({names.routing_basis(decided)})", "dim")
    if decided.reasoning:
        text.append(f": {shorten(decided.reasoning, 160)}", "dim")
    return text


def handoff(moved: v1.AgentHandoff) -> Text:
    """Who goes on and why."""
    text = Text.assemble(
        ("⇢ ", "magenta"),
        (shorten(moved.from_agent_id, 64), "bold magenta"),
        " hands over to ",
        (shorten(moved.to_agent_id, 64), "bold magenta"),
    )
    if moved.reason:
        text.append(f": {shorten(moved.reason, 160)}", "dim")
    return text


def dispatched(order: v1.ToolCallDispatched) -> Text | None:
    """A call that changes something and that nobody was asked about; the others were shown when asked."""
    call = order.tool_call
    if order.approval_id or call.tool_name in _TOLD_OTHERWISE or call.effect == v1.TOOL_EFFECT_READ:
        return None
    return Text.assemble(("→ ", "yellow"), (calls.call_line(call), "bold"))


def completed(call: v1.ToolCall, result: v1.ToolResult, *, output_seen: bool) -> Text | None:
    """What came of a call, with the end of a command's output unless it was seen already."""
    told = call.tool_name in _TOLD_OTHERWISE and result.status == v1.ToolResult.STATUS_SUCCEEDED
    if told:
        return None
    sign, style, _ = calls.outcome(result)
    text = Text.assemble((f"{sign} ", style), calls.call_line(call, 70))
    summary = calls.result_summary(call, result)
    if summary:
        text.append(f" · {summary}", "dim")
    if call.tool_name == "execute_command" and not output_seen:
        text.append_text(_last_output(calls.parts_text(result.content)))
    return text


def _last_output(output: str) -> Text:
    lines = output.rstrip().splitlines()
    text = Text()
    if len(lines) > _OUTPUT_LINES:
        text.append(f"\n  │ … {count(len(lines) - _OUTPUT_LINES, 'line')} before", "dim")
    for line in lines[-_OUTPUT_LINES:]:
        text.append(f"\n  │ {line}", "dim")
    return text


_RESOLVED: Final[Mapping["v1.ApprovalState.ValueType", tuple[str, str, str]]] = {
    v1.APPROVAL_STATE_APPROVED: ("✓", "green", "approved"),
    v1.APPROVAL_STATE_APPROVED_WITH_EDITS: ("✓", "green", "approved with edits"),
    v1.APPROVAL_STATE_REJECTED: ("✗", "yellow", "rejected"),
    v1.APPROVAL_STATE_EXPIRED: ("⌛", "yellow", "expired, nobody decided in time"),
    v1.APPROVAL_STATE_CANCELLED: ("✗", "yellow", "no longer needed, the turn was cancelled"),
}


def resolved(approval: v1.Approval) -> Text:
    """What was decided and by whom."""
    sign, style, words = _RESOLVED.get(approval.state, ("?", "red", names.approval_state(approval.state)))
    by = f" by {shorten(names.actor(approval.decided_by), 60)}" if approval.HasField("decided_by") else ""
    text = Text.assemble((f"{sign} {words}", style), by, ": ", calls.call_line(approval.tool_call, 70))
    if approval.decision.comment:
        text.append(f' · "{shorten(approval.decision.comment, 120)}"', "dim")
    return text


def question(asked: v1.Question) -> Text:
    """The question with its options numbered."""
    who = shorten(asked.agent_id, 64) or "The router"
    text = Text.assemble(("? ", "bold cyan"), (f"{who} asks: ", "cyan"), (clean(asked.text), "bold"))
    for number, option in enumerate(asked.options, 1):
        text.append(f"\n  {number}. {shorten(option.label, 160)}")
    return text


def recovered(taken: v1.TurnRecovered) -> Text:
    """Why the turn starts its step once more."""
    return quiet(f"↻ attempt {taken.attempt}: {names.recovery_cause(taken.cause)}")


def parked(waiting: v1.TurnParked) -> Text:
    """Why the turn waits."""
    text = Text(f"⏸ waiting for a model: {error_words(waiting.error)}", "yellow")
    return text.append("; goes on by itself when one is back", "dim")


def notice(held_up: v1.TurnNotice) -> Text:
    """What the turn is held up by."""
    seconds = held_up.wait.seconds + held_up.wait.nanos / 1e9
    then = names.NOTICES.get(held_up.kind, "goes on")
    if held_up.model and held_up.kind == v1.TurnNotice.KIND_FALLBACK:
        then = f"{then} {shorten(held_up.model, 64)}"
    return Text(f"… {shorten(held_up.reason, 200)}; {then}" + (f" in {seconds:.1f} s" if seconds else ""), "yellow")


def error_words(error: v1.Error) -> str:
    """An error in one line."""
    words = shorten(error.message, 300) or "no reason was given"
    return f"{words} ({shorten(error.reason, 64)})" if error.reason else words


def finished(turn: v1.TurnFinished) -> Text:
    """How a turn ended and what it cost."""
    cost = f"{turn.elapsed.seconds + turn.elapsed.nanos / 1e9:.1f} s"
    if turn.usage.model_calls:
        tokens = turn.usage.input_tokens + turn.usage.output_tokens
        cost += f", {count(turn.usage.model_calls, 'model call')}, {count(tokens, 'token')}"
    if turn.state == v1.TURN_STATE_FAILED:
        return Text.assemble(("✗ failed: ", "bold red"), error_words(turn.error), (f"  ({cost})", "dim"))
    if turn.state == v1.TURN_STATE_CANCELLED:
        return Text.assemble(("✗ cancelled", "yellow"), (f"  ({cost})", "dim"))
    return quiet(f"■ done in {cost}")


def welcome(session: v1.Session, workspace: Path, target: str) -> Text:
    """The first line of a chat."""
    text = Text.assemble(("● ", "green"), "session ", (session.session_id, "bold"))
    return text.append(f" on {target}, working in {workspace}\n  /help tells what there is", "dim")


def beginning(session: v1.Session) -> Text | None:
    """What is said of a history whose beginning is gone."""
    if session.oldest_seq <= 1:
        return None
    return quiet(f"… what came before event {session.oldest_seq} is no longer kept")


def farewell(session: v1.Session, command: str) -> Text:
    """The last line of a chat: the command that comes back to it."""
    return quiet(f"The session stays; go on with: {command} --session {session.session_id}")


def closed(event: v1.SessionClosed) -> Text:
    """The session ended."""
    return quiet(f"session closed{': ' + shorten(event.reason, 120) if event.reason else ''}")


SIMPLE: Final[Mapping[str, Callable[[v1.SessionEvent], Text | None]]] = {
    "user_message": lambda event: user_message(event.user_message),
    "routing_decided": lambda event: routing(event.routing_decided),
    "tool_call_dispatched": lambda event: dispatched(event.tool_call_dispatched),
    "approval_resolved": lambda event: resolved(event.approval_resolved.approval),
    "question_asked": lambda event: question(event.question_asked.question),
    "steering_seen": lambda _: quiet("heard: the next step goes by what you said"),
    "turn_recovered": lambda event: recovered(event.turn_recovered),
    "turn_parked": lambda event: parked(event.turn_parked),
    "turn_resumed": lambda _: quiet("▶ goes on"),
    "turn_cancel_requested": lambda _: quiet("cancelling…"),
    "turn_finished": lambda event: finished(event.turn_finished),
    "session_closed": lambda event: closed(event.session_closed),
}
"""Events whose line needs nothing but the event itself."""
