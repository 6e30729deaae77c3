"""`agent-runtime events`: a session's log, one line an event."""

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.text import Text

from agent_runtime import v1
from agent_runtime_client import Client
from agent_runtime_client.terminal import calls, names, render
from agent_runtime_client.terminal.connect import ANYBODY, DEFAULT_TARGET, Access, Target, with_client
from agent_runtime_client.terminal.failures import Exit
from agent_runtime_client.terminal.oneshot import event_json
from agent_runtime_client.terminal.printer import stdout_console
from agent_runtime_client.terminal.sessions import local_time
from agent_runtime_client.terminal.text import count, shorten

_WIDTH = 120


def events(
    session: Annotated[str, Parameter(help="Session whose events to print.")],
    *,
    target: Target = DEFAULT_TARGET,
    access: Access = ANYBODY,
    after: Annotated[int, Parameter(help="Only events with a higher number.")] = 0,
    follow: Annotated[bool, Parameter(negative="", help="Go on with new events until Ctrl-C.")] = False,
    json: Annotated[bool, Parameter(negative="", help="Print JSON lines.")] = False,
) -> int:
    """Print the events of a session: everything durable that happened in it, in order."""

    async def work(client: Client) -> int:
        console = stdout_console()
        found = await client.get_session(session)
        begin = max(after, found.oldest_seq - 1)
        if begin > after and (gone := render.beginning(found)) is not None:
            Console(stderr=True, highlight=False).print(gone, soft_wrap=True)
        source = _followed(client, session, begin) if follow else client.events(session, after_seq=begin)
        async for event in source:
            if json:
                print(event_json(event), flush=True)
            else:
                console.print(event_line(event), soft_wrap=True)
        return Exit.OK

    return with_client(target, work, access)


async def _followed(client: Client, session_id: str, after: int) -> AsyncIterator[v1.SessionEvent]:
    async for frame in client.follow(session_id, after_seq=after):
        if frame.WhichOneof("frame") == "event":
            yield frame.event


def event_line(event: v1.SessionEvent) -> Text:
    """Number, time, kind and gist of an event."""
    kind = event.WhichOneof("payload") or "unknown"
    text = Text.assemble((f"{event.seq:>5} ", "bold"), (f"{local_time(event.create_time)[11:]} ", "dim"))
    return text.append(f"{kind:22}", "cyan").append(" ").append(gist(event))


def gist(event: v1.SessionEvent) -> str:
    """What the event says, in one line."""
    tell = _GISTS.get(event.WhichOneof("payload") or "")
    return shorten(tell(event), _WIDTH) if tell is not None else ""


def _result(event: v1.SessionEvent) -> str:
    result = event.tool_call_completed.result
    told = result.error_message or calls.parts_text(result.content)
    return f"{result.call_id} {names.result_status(result.status)}: {told}"


def _message(event: v1.SessionEvent) -> str:
    return f"{event.assistant_message.agent_id}: {calls.parts_text(event.assistant_message.parts)}"


def _finish(event: v1.SessionEvent) -> str:
    finished = event.turn_finished
    error = f": {render.error_words(finished.error)}" if finished.HasField("error") else ""
    return names.turn_state(finished.state) + error


_GISTS: Mapping[str, Callable[[v1.SessionEvent], str]] = {
    "session_created": lambda event: event.session_created.agent_id,
    "user_message": lambda event: calls.parts_text(event.user_message.parts),
    "turn_started": lambda event: f"{event.turn_started.agent_id} on {event.turn_started.model}",
    "turn_recovered": lambda event: names.recovery_cause(event.turn_recovered.cause),
    "assistant_message": _message,
    "tool_call_proposed": lambda event: _called(event.tool_call_proposed.tool_call),
    "approval_requested": lambda event: _called(event.approval_requested.approval.tool_call),
    "approval_resolved": lambda event: render.resolved(event.approval_resolved.approval).plain,
    "tool_call_dispatched": lambda event: _called(event.tool_call_dispatched.tool_call),
    "tool_call_started": lambda event: f"{event.tool_call_started.call_id} on {event.tool_call_started.client_id}",
    "tool_call_completed": _result,
    "agent_handoff": lambda event: render.handoff(event.agent_handoff).plain,
    "turn_parked": lambda event: render.error_words(event.turn_parked.error),
    "turn_resumed": lambda event: f"after {event.turn_resumed.parked.seconds} s",
    "turn_cancel_requested": lambda event: event.turn_cancel_requested.reason,
    "turn_finished": _finish,
    "executor_changed": lambda event: event.executor_changed.client_id or "nobody",
    "tools_updated": lambda event: count(len(event.tools_updated.tools), "tool"),
    "session_closed": lambda event: event.session_closed.reason,
    "routing_decided": lambda event: render.routing(event.routing_decided).plain,
    "steering_seen": lambda event: f"step {event.steering_seen.step_number} sees {_seqs(event.steering_seen)}",
    "session_forked": lambda event: f"from {event.session_forked.from_session_id} at {event.session_forked.from_seq}",
    "question_asked": lambda event: event.question_asked.question.text,
}


def _seqs(seen: v1.SteeringSeen) -> str:
    return ", ".join(str(seq) for seq in seen.message_seqs)


def _called(call: v1.ToolCall) -> str:
    return f"{call.call_id} {calls.call_line(call)}"
