"""What users are told of calls that are held up."""

import random
from collections.abc import Iterator
from datetime import timedelta
from time import monotonic
from typing import Final

from agent_runtime import v1
from agent_runtime_server.engine.state import State
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


class HeldUp:
    """The latest notice, for who comes to read while it is still true."""

    def __init__(self) -> None:
        self._notice: v1.TurnNotice | None = None
        self._until = 0.0

    def note(self, shown: v1.TurnNotice) -> None:
        """Keep a notice until its wait is over."""
        self._notice, self._until = shown, monotonic() + shown.wait.ToTimedelta().total_seconds()

    def now(self) -> Iterator[v1.TurnNotice]:
        """Yield the notice with what is left of its wait."""
        left = self._until - monotonic()
        if self._notice is not None and left > 0:
            told = v1.TurnNotice()
            told.CopyFrom(self._notice)
            told.wait.FromTimedelta(timedelta(seconds=left))
            yield told


def between_answers(state: State, model: str) -> Delay | None:
    """Return how long to wait before a step whose answers broke off is taken once more."""
    broken = state.turn.broken if state.turn is not None else 0
    if not broken:
        return None
    most = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** (broken - 1))
    seconds = random.uniform(0, most)  # noqa: S311 - spreads load, guards nothing
    return Delay(Hold.RETRY, "the model's answer broke off", seconds, model, broken + 1)
