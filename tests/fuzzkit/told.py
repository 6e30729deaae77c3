"""What one client process says: counts and findings, each as a line of JSON."""

import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Final

_SHOWN_BYTES: Final = 600


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that must not be; the seed makes the same play again."""

    seed: str
    where: str
    what: str
    sent: Sequence[str] = ()
    """The last frames that were sent, in hexadecimal digits, each cut at 600 bytes."""


@dataclass(slots=True)
class Tally:
    """What was done and answered since the last telling."""

    frames: int = 0
    answers: int = 0
    plays: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    """How calls ended."""
    acks: Counter[str] = field(default_factory=Counter)
    """How frames were answered."""

    def taken(self) -> "Tally":
        """Return what was counted, and begin anew."""
        taken = Tally()
        taken.add(self)
        self.frames = self.answers = 0
        for mine in (self.plays, self.statuses, self.acks):
            mine.clear()
        return taken

    def add(self, other: "Tally") -> None:
        """Add what another one counted."""
        self.frames += other.frames
        self.answers += other.answers
        for mine, its in ((self.plays, other.plays), (self.statuses, other.statuses), (self.acks, other.acks)):
            mine.update(its)


def tell(what: Tally | Finding) -> None:
    """Write a line to the parent."""
    kind = "finding" if isinstance(what, Finding) else "tally"
    said = {"kind": kind, **{one.name: getattr(what, one.name) for one in fields(what)}}
    sys.stdout.write(f"{json.dumps(said)}\n")
    sys.stdout.flush()


def heard(line: bytes | str) -> Tally | Finding:
    """Return what a line says."""
    said = json.loads(line)
    if said.pop("kind") == "finding":
        return Finding(**said)
    names = ("plays", "statuses", "acks")
    return Tally(**(said | {name: Counter(said[name]) for name in names}))


def shown(frames: Sequence[bytes]) -> Sequence[str]:
    """Return frames as a finding shows them."""
    return [frame[:_SHOWN_BYTES].hex() for frame in frames]
