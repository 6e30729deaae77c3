"""What must be true of frames that many clients wrote at once: they are in the log in some sequential order."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from agent_runtime import v1
from agent_runtime_server.agents.registry import builtin
from agent_runtime_server.engine.replay import Replay

_COMMITTED: Final = (v1.FrameAck.OUTCOME_ACCEPTED, v1.FrameAck.OUTCOME_DUPLICATE)


@dataclass(slots=True)
class Told:
    """One frame: when it was first sent, and every answer to it with its time."""

    frame: v1.ChatRequest
    sent: float
    answers: list[tuple[float, v1.FrameAck]] = field(default_factory=list)

    @property
    def seqs(self) -> set[int]:
        """The seqs that its acks named."""
        return {ack.seq for _, ack in self.answers if ack.outcome in _COMMITTED}

    @property
    def confirmed(self) -> float:
        """When it was first known to be committed."""
        return min(at for at, ack in self.answers if ack.outcome in _COMMITTED)


def order_problems(told: Sequence[Told], log: Sequence[v1.SessionEvent]) -> Iterator[str]:
    """The log is some order of the accepted frames, each of them once, and none before one it came after."""
    made = {event.frame_id: event for event in log if event.frame_id}
    if len(made) != sum(1 for event in log if event.frame_id):
        yield "a frame made two events"
    yield from (f"{frame_id} is nobody's" for frame_id in made.keys() - {one.frame.frame_id for one in told})
    for one in told:
        yield from _answers(one, made.get(one.frame.frame_id))
    yield from _real_time([one for one in told if one.seqs])


def _answers(one: Told, event: v1.SessionEvent | None) -> Iterator[str]:
    frame_id = one.frame.frame_id
    accepted = Counter(ack.outcome for _, ack in one.answers)[v1.FrameAck.OUTCOME_ACCEPTED]
    if accepted > 1:
        yield f"{frame_id} was accepted {accepted} times"
    if one.seqs != ({event.seq} if event is not None else set()):
        yield f"{frame_id} was acknowledged as {one.seqs}, and is {event.seq if event is not None else 'not there'}"
    if event is not None and not _says(one.frame, event):
        yield f"{frame_id} made another event than it says"


def _says(frame: v1.ChatRequest, event: v1.SessionEvent) -> bool:
    """Tell whether an event holds what a frame said."""
    match frame.WhichOneof("frame"):
        case "user_message":
            return event.user_message.parts == frame.user_message.parts
        case "tool_result":
            return event.tool_call_completed.result.content == frame.tool_result.content
        case "approval_decision":
            return event.approval_resolved.approval.decision.verdict == frame.approval_decision.verdict
        case _:
            return event.turn_cancel_requested.reason == frame.cancel_turn.reason


def _real_time(told: Sequence[Told]) -> Iterator[str]:
    """Who was confirmed before another was sent stands before it."""
    begun = sorted(told, key=lambda one: one.sent)
    ended = sorted(told, key=lambda one: one.confirmed)
    highest, place = 0, 0
    for one in begun:
        while place < len(ended) and ended[place].confirmed < one.sent:
            highest = max(highest, *ended[place].seqs)
            place += 1
        if min(one.seqs) < highest:
            yield f"{one.frame.frame_id} is {min(one.seqs)}, and {highest} was confirmed before it was sent"


def replay_problems(log: Sequence[v1.SessionEvent]) -> Iterator[str]:
    """Decided again one after the other by the pure engine, the frames lead to this very log."""
    for step in Replay(log, builtin()):
        if step.difference is not None:
            yield f"{step.cause}: {step.difference}"
