"""What users are told of calls that are held up."""

import random
from datetime import timedelta
from typing import Final

from agent_runtime import v1
from agent_runtime_server.engine.turn import State
from agent_runtime_server.llm.base import Delay, Hold

_FIRST_PAUSE: Final = 1.0  # seconds, at most, after an answer that broke off
_LONGEST_PAUSE: Final = 15.0

_KINDS: Final = {
    Hold.RETRY: v1.TurnNotice.KIND_RETRY,
    Hold.THROTTLED: v1.TurnNotice.KIND_THROTTLED,
    Hold.FALLBACK: v1.TurnNotice.KIND_FALLBACK,
}


def notice(turn_id: str, delay: Delay) -> v1.TurnNotice:
    """Return what is shown of a delay."""
    made = v1.TurnNotice(
        turn_id=turn_id,
        kind=_KINDS[delay.hold],
        reason=delay.reason,
        model=delay.model,
        call_number=delay.call_number,
    )
    if delay.seconds:
        made.wait.FromTimedelta(timedelta(seconds=delay.seconds))
    return made


def between_answers(state: State, model: str) -> Delay | None:
    """Return how long to wait before a step whose answers broke off is taken once more."""
    broken = state.turn.broken if state.turn is not None else 0
    if not broken:
        return None
    most = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** (broken - 1))
    seconds = random.uniform(0, most)  # noqa: S311 - spreads load, guards nothing
    return Delay(Hold.RETRY, "the model's answer broke off", seconds, model, broken + 1)
