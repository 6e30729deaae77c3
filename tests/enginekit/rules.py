"""What holds for every log and every transcript, whatever has happened: the rules, each broken one told."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from agent_runtime import v1
from agent_runtime_server.agents.prompt import messages
from agent_runtime_server.agents.registry import Registry
from agent_runtime_server.engine.state import State
from agent_runtime_server.engine.turn import apply


def log_problems(log: Sequence[v1.SessionEvent]) -> Iterator[str]:
    """A call is proposed, then dispatched if it is to run, and completed once; a turn ends with all of its calls."""
    if [event.seq for event in log] != list(range(1, len(log) + 1)):
        yield "the seqs have a gap or a repetition"
    calls = _Calls()
    for event in log:
        for problem in calls.take(event):
            yield f"event {event.seq}: {problem}"


class _Calls:
    def __init__(self) -> None:
        self._proposed: dict[str, str] = {}
        self._dispatched: set[str] = set()
        self._completed: set[str] = set()

    def take(self, event: v1.SessionEvent) -> Iterator[str]:
        match event.WhichOneof("payload"):
            case "assistant_message":
                if still_open := self._open(event.turn_id):
                    yield f"the model answered while {still_open} were open"
            case "tool_call_proposed":
                yield from self._propose(event.tool_call_proposed.tool_call.call_id, event.turn_id)
            case "tool_call_dispatched":
                yield from self._dispatch(event.tool_call_dispatched.tool_call)
            case "tool_call_started":
                if event.tool_call_started.call_id not in self._dispatched - self._completed:
                    yield f"{event.tool_call_started.call_id} was started while it was not to run"
            case "tool_call_completed":
                yield from self._complete(event.tool_call_completed.result.call_id)
            case "turn_finished":
                if still_open := self._open(event.turn_id):
                    yield f"the turn ended while {still_open} were open"

    def _open(self, turn_id: str) -> list[str]:
        return sorted(
            call_id for call_id, turn in self._proposed.items() if turn == turn_id and call_id not in self._completed
        )

    def _propose(self, call_id: str, turn_id: str) -> Iterator[str]:
        if call_id in self._proposed:
            yield f"{call_id} was proposed again"
        self._proposed[call_id] = turn_id

    def _dispatch(self, call: v1.ToolCall) -> Iterator[str]:
        if call.call_id not in self._proposed:
            yield f"{call.call_id} was dispatched, but never proposed"
        if call.call_id in self._dispatched | self._completed:
            yield f"{call.call_id} was dispatched again"
        if not set(call.depends_on_call_ids) <= self._completed:
            yield f"{call.call_id} did not wait for what it depends on"
        self._dispatched.add(call.call_id)

    def _complete(self, call_id: str) -> Iterator[str]:
        if call_id not in self._proposed:
            yield f"{call_id} was completed, but never proposed"
        if call_id in self._completed:
            yield f"{call_id} was completed again"
        self._completed.add(call_id)


def transcript_problems(said: Iterable[Mapping[str, object]]) -> Iterator[str]:
    """Behind a message with calls stand their results, one each, in the order of the calls."""
    expected: list[str] = []
    for place, message in enumerate(said):
        if expected:
            if (message["role"], message.get("tool_call_id")) != ("tool", expected[0]):
                yield f"message {place} should be the result of {expected[0]}"
                return
            del expected[0]
            continue
        if message["role"] == "tool":
            yield f"message {place} is a result that no call asked for"
            return
        calls = message.get("tool_calls") or []
        assert isinstance(calls, list)
        expected = [str(call["id"]) for call in calls]
    if expected:
        yield f"the results of {expected} are missing"


def folded_messages(log: Iterable[v1.SessionEvent], agents: Registry) -> Sequence[Mapping[str, object]]:
    """Return the messages that a model would be sent after this log."""
    state = State("folded")
    for event in log:
        apply(state, event)
    return list(messages(agents.get(state.agent_id), state.transcript, others=()))
