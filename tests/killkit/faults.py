"""Which faults there are, and the plan of a run: which of them, and when."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Final

AT_RANDOM: Final = "at random"
SENDING: Final = "frame on its way"

BOUNDARIES: Final = (
    "user_message",
    "turn_started",
    "assistant_message",
    "tool_call_proposed",
    "approval_requested",
    "approval_resolved",
    "tool_call_dispatched",
    "tool_call_started",
    "tool_call_completed",
    "turn_finished",
    SENDING,
    AT_RANDOM,
)
"""When a fault strikes: as soon as an event of this kind has come, or a frame was sent, or at any moment."""


class Kind(StrEnum):
    """What befalls a world."""

    KILL_SERVER = "kill -9 server"
    KILL_WORKER = "kill -9 worker"
    KILL_CLIENT = "kill -9 client"
    DRAIN_SERVER = "SIGTERM server"
    CUT = "TCP cut"
    RESET = "TCP reset"
    LOST_ACKS = "TCP cut, acks lost"
    STALL = "TCP stalled"
    HALF_OPEN = "TCP half-open"
    STOP_SERVER = "SIGSTOP server"
    REDIS = "Redis restarted"
    POSTGRES = "Postgres restarted"


SLOW: Final = (Kind.HALF_OPEN, Kind.STOP_SERVER, Kind.REDIS, Kind.POSTGRES)
"""Those that take long to notice or to mend."""
_SLOW_SHARE: Final = 0.022


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault to come."""

    number: int
    kind: Kind
    boundary: str


def plan(runs: int, seed: int, kinds: Sequence[Kind] = tuple(Kind)) -> list[Fault]:
    """Return so many faults in an order that the seed decides: every kind at every boundary in turn."""
    chance = Random(seed)
    slow = [kind for kind in kinds if kind in SLOW]
    quick = [kind for kind in kinds if kind not in SLOW]
    each = max(1, round(runs * _SLOW_SHARE)) if quick else -(-runs // len(slow))
    wanted = [pair for kind in slow for pair in itertools.islice(_pairs(kind, chance), each)][:runs]
    wanted += itertools.islice(_round_robin([_pairs(kind, chance) for kind in quick]), runs - len(wanted))
    chance.shuffle(wanted)
    return [Fault(number, kind, boundary) for number, (kind, boundary) in enumerate(wanted, start=1)]


def _pairs(kind: Kind, chance: Random) -> Iterator[tuple[Kind, str]]:
    """Yield the kind with each boundary, over and over, each time in another order."""
    while True:
        for boundary in chance.sample(BOUNDARIES, len(BOUNDARIES)):
            yield kind, boundary


def _round_robin(sources: Sequence[Iterator[tuple[Kind, str]]]) -> Iterator[tuple[Kind, str]]:
    for source in itertools.cycle(sources):
        yield next(source)
