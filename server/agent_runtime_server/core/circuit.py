"""A circuit breaker as a state machine: what keeps calls from an endpoint that does not answer.

    CLOSED ──failures in a row, or too many of a window──▶ OPEN ──time, or a probe that is answered──▶ HALF_OPEN
       ▲                                                     ▲                                            │ │
       └──────────────────── enough successes ───────────────┼────────────────────────────────────────────┘ │
                                                             └────────────── a failure ─────────────────────┘

Every change of phase begins a new epoch, and a report counts in the epoch in which its call was let through only. While
HALF_OPEN one call more than have succeeded so far is let through at a time; a place whose call never reports is free
again after a while. A call that fails tells how things stood when it was made, so the next probe is counted from then,
however long it hung. The same machine stands as a script beside the Redis store, and the two are held to each other.
"""

from dataclasses import dataclass, field
from enum import StrEnum


class Phase(StrEnum):
    """What becomes of calls."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class Rules:
    """When a circuit opens and closes; times in milliseconds."""

    failures: int = 5  # in a row, to open
    window_ms: int = 30_000
    window_calls: int = 20  # least number of calls that a rate means anything of
    window_percent: int = 50  # of failures in a window, to open
    open_ms: int = 60_000  # until calls are tried again
    probe_ms: int = 5_000  # between probes meanwhile
    successes: int = 3  # while half open, to close
    trial_ms: int = 120_000  # how long a call may keep its place while half open


@dataclass(frozen=True, slots=True)
class Admit:
    """May a call be made? `trial` names it."""

    trial: str


@dataclass(frozen=True, slots=True)
class Report:
    """What became of calls of an epoch; the successes came first. With neither, a call was given up."""

    epoch: int
    trial: str = ""
    good: int = 0
    bad: int = 0


@dataclass(frozen=True, slots=True)
class Look:
    """Is it this asker's turn to probe?"""


@dataclass(frozen=True, slots=True)
class Answered:
    """A probe of an epoch was answered."""

    epoch: int


Operation = Admit | Report | Look | Answered


@dataclass(slots=True)
class Circuit:
    """The state of one circuit; moments in milliseconds."""

    phase: Phase = Phase.CLOSED
    epoch: int = 0
    failures: int = 0  # in a row
    successes: int = 0  # while half open
    since: int = 0  # when the phase began
    until: int = 0  # when an open circuit is half opened at the latest
    probe_at: int = 0  # when the next probe is due
    window: int = 0  # when the window began
    good: int = 0  # calls of the window
    bad: int = 0
    trials: dict[str, int] = field(default_factory=dict)  # calls made while half open -> when their place is free again

    def apply(self, rules: Rules, operation: Operation, now: int) -> bool:
        """Take one step and answer the question of `Admit` and of `Look`."""
        self._ripen(rules, now)
        match operation:
            case Admit(trial):
                return self._admit(rules, trial, now)
            case Report():
                self._report(rules, operation, now)
            case Look():
                return self._look(rules, now)
            case Answered(epoch):
                if self.phase is Phase.OPEN and epoch == self.epoch:
                    self._begin(Phase.HALF_OPEN, now)
        return False

    def room(self, rules: Rules) -> int:
        """Return how many calls more may be made while half open."""
        return max(0, min(1 + self.successes, rules.successes) - len(self.trials))

    def _ripen(self, rules: Rules, now: int) -> None:
        if self.phase is Phase.OPEN and now >= self.until:
            self._begin(Phase.HALF_OPEN, now)
        self.trials = {trial: until for trial, until in self.trials.items() if until > now}
        if now - self.window >= rules.window_ms:
            self.window, self.good, self.bad = now, 0, 0

    def _admit(self, rules: Rules, trial: str, now: int) -> bool:
        if self.phase is Phase.HALF_OPEN and self.room(rules):
            self.trials[trial] = now + rules.trial_ms
            return True
        return self.phase is Phase.CLOSED

    def _report(self, rules: Rules, report: Report, now: int) -> None:
        if report.epoch != self.epoch:
            return
        if self.phase is Phase.CLOSED:
            self._count(rules, report, now)
        elif (until := self.trials.pop(report.trial, None)) is not None:
            if report.bad:
                self._open(rules, now, made=until - rules.trial_ms)
            elif report.good:
                self.successes += 1
                if self.successes >= rules.successes:
                    self._begin(Phase.CLOSED, now)

    def _count(self, rules: Rules, report: Report, now: int) -> None:
        self.good += report.good
        self.bad += report.bad
        self.failures = report.bad if report.good else self.failures + report.bad
        calls = self.good + self.bad
        too_many = calls >= rules.window_calls and self.bad * 100 >= calls * rules.window_percent
        if report.bad and (self.failures >= rules.failures or too_many):
            self._open(rules, now, made=now)

    def _look(self, rules: Rules, now: int) -> bool:
        if self.phase is not Phase.OPEN or now < self.probe_at:
            return False
        self.probe_at = now + rules.probe_ms
        return True

    def _open(self, rules: Rules, now: int, *, made: int) -> None:
        failures = self.failures
        self._begin(Phase.OPEN, now)
        self.failures = max(failures, 1)
        self.until = now + rules.open_ms
        self.probe_at = made + rules.probe_ms

    def _begin(self, phase: Phase, now: int) -> None:
        self.phase = phase
        self.epoch += 1
        self.since = now
        self.successes = 0
        self.trials = {}
        if phase is Phase.CLOSED:
            self.failures = 0
            self.window, self.good, self.bad = now, 0, 0
