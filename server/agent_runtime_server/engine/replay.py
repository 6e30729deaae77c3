"""A recorded log, decided once more: what came from outside is taken from it, everything else must come out the same.

Ids, times and the limits that a turn begins with are those of the recording. Where the two part, the recording is
followed, so that one difference does not make others.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.json_format import MessageToDict

from agent_runtime import v1
from agent_runtime_server.agents.registry import Registry
from agent_runtime_server.core.clock import to_nanos
from agent_runtime_server.core.errors import CallerError
from agent_runtime_server.engine.causes import Window, cause_of, decided
from agent_runtime_server.engine.draft import Draft
from agent_runtime_server.engine.limits import Limits, of_turn
from agent_runtime_server.engine.settle import settle
from agent_runtime_server.engine.state import State
from agent_runtime_server.engine.turn import apply


@dataclass(frozen=True, slots=True)
class Difference:
    """Where the two part: what is recorded, what is decided now, None for nothing, and the fields that differ."""

    seq: int
    recorded: v1.SessionEvent | None
    replayed: v1.SessionEvent | None
    why: str
    fields: Sequence[tuple[str, str, str]] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """One transaction: what set it off, its events as recorded, and where replaying it differs."""

    cause: str
    events: Sequence[v1.SessionEvent]
    difference: Difference | None = None


class Replay:
    """Goes through a whole log, transaction by transaction; `state` is the one that those so far have led to."""

    def __init__(self, events: Sequence[v1.SessionEvent], agents: Registry) -> None:
        self._events = events
        self.agents = agents
        self._forks = [index for index, event in enumerate(events) if event.HasField("session_forked")]
        self.state = State(events[0].session_id if events else "")

    def __iter__(self) -> Iterator[Step]:
        at = 0
        while at < len(self._events):
            step = self._step(at)
            yield step
            at += len(step.events)

    def _step(self, at: int) -> Step:
        """Decide one transaction."""
        end = next((fork for fork in self._forks if fork > at), len(self._events))
        window = Window(self._events, at, end)
        try:
            cause = cause_of(self.state, window)
            if cause is None:
                return self._differs(window, "", 0, None, "nothing that came before leads to it")
            draft = self._draft(window)
            cause.decide(draft)
            settle(draft)
        except CallerError as refusal:
            return self._differs(window, "", 0, None, f"it is refused now: {refusal}")
        except Exception as error:  # noqa: BLE001 - a log that was tampered with can break every assumption
            return self._differs(window, "", 0, None, f"it cannot be decided: {type(error).__name__}: {error}")
        return self._compared(window, cause.words, draft.events)

    def _draft(self, window: Window) -> Draft:
        begins = next((of_turn(one.turn_started) for one in window if one.HasField("turn_started")), None)
        now = to_nanos(window.first.create_time)
        return Draft(self.state, now, _Ids(window), self.agents, begins or Limits(model=_model(window)))

    def _compared(self, window: Window, cause: str, replayed: Sequence[v1.SessionEvent]) -> Step:
        recorded = self._events[window.start : min(window.start + len(replayed), window.end)]
        for index, (left, right) in enumerate(zip(recorded, replayed, strict=False)):
            _forgive(left, right)
            if left != right:
                return self._differs(window, cause, index, right, "")
        if len(recorded) == len(replayed) > 0:
            return Step(cause, recorded)
        return self._differs(window, cause, len(recorded), replayed[-1] if replayed else None, "")

    def _differs(self, window: Window, cause: str, index: int, replayed: v1.SessionEvent | None, why: str) -> Step:
        """Follow the recording to the next event from outside."""
        if window.end < len(self._events) and sum(1 for _ in window) == window.end - window.start:
            self._refold(window.end)  # the session was forked in the middle of a transaction: the rest is not known
            return Step(cause, self._events[window.start : window.end])
        first_wrong = window.start + index
        end = max(first_wrong, window.start + 1)
        while end < window.end and decided(self._events[end]):
            end += 1
        recorded = self._events[first_wrong] if first_wrong < window.end else None
        fields = [*_fields(recorded, replayed)] if recorded is not None and replayed is not None else []
        seq = recorded.seq if recorded is not None else self._events[window.end - 1].seq + 1
        try:
            self._refold(end)
        except Exception as error:  # noqa: BLE001 - as above
            why = f"{why + '; ' if why else ''}the log makes no sense from here: {type(error).__name__}: {error}"
            end = len(self._events)
        return Step(cause, self._events[window.start : end], Difference(seq, recorded, replayed, why, fields))

    def _refold(self, end: int) -> None:
        self.state = State(self.state.session_id)
        for event in self._events[:end]:
            apply(self.state, event)


class _Ids:
    """Hands out the ids that were given in the recording."""

    def __init__(self, window: Window) -> None:
        self._ids = {prefix: map(read, window) for prefix, read in _READ_IDS.items()}

    def __call__(self, prefix: str) -> str:
        """Return the next id of the kind, or one that no log has."""
        return next(filter(None, self._ids.get(prefix, ())), f"{prefix}-unrecorded")


def _turn_id(event: v1.SessionEvent) -> str:
    return event.turn_id if event.HasField("user_message") else ""


def _message_id(event: v1.SessionEvent) -> str:
    return "" if event.assistant_message.step_id else event.assistant_message.message_id


_READ_IDS: Final[Mapping[str, Callable[[v1.SessionEvent], str]]] = {
    "turn": _turn_id,
    "msg": _message_id,
    "step": lambda event: event.assistant_message.step_id,
    "question": lambda event: event.question_asked.question.question_id,
    "approval": lambda event: event.approval_requested.approval.approval_id,
}


def _model(window: Window) -> str:
    """Return the model of a turn that begins here, where nothing else is recorded of its limits."""
    return next((one.turn_started.model for one in window if one.HasField("turn_started")), "")


def _forgive(recorded: v1.SessionEvent, replayed: v1.SessionEvent) -> None:
    """Take over what neither the engine nor anything in the log decides: traces, and revisions, which claims move."""
    replayed.traceparent = recorded.traceparent
    if recorded.HasField("approval_resolved") and replayed.HasField("approval_resolved"):
        revision = recorded.approval_resolved.approval.revision
        if revision > replayed.approval_resolved.approval.revision:
            replayed.approval_resolved.approval.revision = revision


def _fields(recorded: v1.SessionEvent, replayed: v1.SessionEvent) -> Iterator[tuple[str, str, str]]:
    """Yield the path of each field that differs, and both of its values."""
    yield from _unequal("", _as_dict(recorded), _as_dict(replayed))


def _as_dict(event: v1.SessionEvent) -> dict[str, Any]:
    return MessageToDict(event, preserving_proto_field_name=True)


def _unequal(path: str, left: object, right: object) -> Iterator[tuple[str, str, str]]:
    if left == right:
        return
    if isinstance(left, dict) and isinstance(right, dict):
        for key in {**left, **right}:
            yield from _unequal(f"{path}.{key}" if path else key, left.get(key), right.get(key))
    else:
        yield path, _said(left), _said(right)


def _said(value: object) -> str:
    return "nothing" if value is None else str(value)
