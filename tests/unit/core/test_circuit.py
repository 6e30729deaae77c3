"""A circuit keeps calls from what does not answer, and finds out in time that it does again."""

from dataclasses import dataclass, field

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from agent_runtime_server.core.circuit import Admit, Answered, Circuit, Look, Phase, Report, Rules

RULES = Rules(window_calls=8, window_ms=10_000)
SECOND = 1000


def fail(circuit: Circuit, times: int, now: int = 0, rules: Rules = RULES) -> None:
    for _ in range(times):
        circuit.apply(rules, Report(circuit.epoch, bad=1), now)


def opened(now: int = 0) -> Circuit:
    circuit = Circuit()
    fail(circuit, 5, now)
    return circuit


def half_opened() -> Circuit:
    circuit = opened()
    circuit.apply(RULES, Answered(circuit.epoch), 0)
    return circuit


def test_five_failures_in_a_row_open_it_and_four_do_not() -> None:
    circuit, rules = Circuit(), Rules()
    fail(circuit, 4, rules=rules)
    assert circuit.phase == "closed"
    circuit.apply(rules, Report(0, good=1), 0)
    fail(circuit, 4, rules=rules)
    assert circuit.phase == "closed", "a success in between begins the row anew"
    fail(circuit, 1, rules=rules)
    assert circuit.phase == "open"


def test_too_large_a_share_of_failures_opens_it() -> None:
    circuit = Circuit()
    for _ in range(4):
        circuit.apply(RULES, Report(0, good=1), 0)
        circuit.apply(RULES, Report(0, bad=1), 0)
    assert circuit.phase is Phase.OPEN


def test_a_share_of_too_few_calls_or_of_another_window_means_nothing() -> None:
    circuit = Circuit()
    for moment in (0, 5, 11, 16, 22):
        circuit.apply(RULES, Report(0, good=1), moment * SECOND)
        fail(circuit, 2, moment * SECOND)
    assert circuit.phase is Phase.CLOSED


def test_an_open_one_lets_nobody_through_until_its_time_is_over() -> None:
    circuit = opened()
    assert not circuit.apply(RULES, Admit("a"), 59_999)
    assert circuit.apply(RULES, Admit("a"), 60_000)
    assert circuit.phase is Phase.HALF_OPEN


def test_one_asker_probes_every_five_seconds() -> None:
    circuit = opened()
    assert not circuit.apply(RULES, Look(), 4_999)
    assert [circuit.apply(RULES, Look(), 5_000) for _ in range(3)] == [True, False, False]
    assert circuit.apply(RULES, Look(), 10_000)


def test_an_answered_probe_half_opens_it_early() -> None:
    circuit = opened()
    circuit.apply(RULES, Answered(circuit.epoch - 1), 1)
    assert circuit.phase == "open", "a probe of an earlier outage says nothing of this one"
    circuit.apply(RULES, Answered(circuit.epoch), 1)
    assert circuit.phase == "half_open"


def test_half_open_lets_one_more_through_than_have_succeeded() -> None:
    circuit = half_opened()
    assert [circuit.apply(RULES, Admit(name), 0) for name in "ab"] == [True, False]
    circuit.apply(RULES, Report(circuit.epoch, "a", good=1), 0)
    assert [circuit.apply(RULES, Admit(name), 0) for name in "bcd"] == [True, True, False]
    circuit.apply(RULES, Report(circuit.epoch, "b", good=1), 0)
    circuit.apply(RULES, Report(circuit.epoch, "c", good=1), 0)
    assert circuit.phase is Phase.CLOSED


def test_one_failure_opens_a_half_open_one_again() -> None:
    circuit = half_opened()
    circuit.apply(RULES, Admit("a"), 0)
    circuit.apply(RULES, Report(circuit.epoch, "a", bad=1), 7)
    assert (circuit.phase, circuit.until) == (Phase.OPEN, 7 + RULES.open_ms)


@pytest.mark.parametrize(("hung", "due"), [(0, 5_000), (3_000, 5_000), (5_000, 5_000), (60_000, 60_000)])
def test_the_next_probe_is_due_five_seconds_after_a_call_that_failed_was_made(hung: int, due: int) -> None:
    circuit = half_opened()
    circuit.apply(RULES, Admit("a"), 0)
    circuit.apply(RULES, Report(circuit.epoch, "a", bad=1), hung)
    if hung < due:
        assert not circuit.apply(RULES, Look(), due - 1)
    assert circuit.apply(RULES, Look(), due)


def test_a_call_that_is_given_up_or_never_reports_gives_its_place_back() -> None:
    circuit = half_opened()
    circuit.apply(RULES, Admit("a"), 0)
    circuit.apply(RULES, Report(circuit.epoch, "a"), 0)
    assert circuit.apply(RULES, Admit("b"), 0)
    assert not circuit.apply(RULES, Admit("c"), RULES.trial_ms - 1)
    assert circuit.apply(RULES, Admit("c"), RULES.trial_ms)
    circuit.apply(RULES, Report(circuit.epoch, "b", bad=1), RULES.trial_ms)
    assert circuit.phase is Phase.HALF_OPEN, "what comes too late counts no more"


@pytest.mark.parametrize("report", [Report(0, good=1), Report(0, bad=9), Report(0, "a", good=9)])
def test_reports_of_an_earlier_epoch_count_for_nothing(report: Report) -> None:
    for circuit in (opened(), half_opened()):
        before = (circuit.phase, circuit.successes)
        circuit.apply(RULES, report, 0)
        assert (circuit.phase, circuit.successes) == before


@dataclass(frozen=True)
class Call:
    """A call that was let through, as its caller remembers it."""

    name: str
    epoch: int


@dataclass
class Told:
    """The rules told the long way: from everything that has happened in the present epoch."""

    phase: Phase = Phase.CLOSED
    epoch: int = 0
    began: int = 0
    outcomes: list[tuple[int, bool]] = field(default_factory=list)
    holders: dict[str, int] = field(default_factory=dict)  # trial -> when it was let through
    window: int = 0
    probed: int = 0

    def begin(self, phase: Phase, now: int) -> None:
        self.phase, self.epoch, self.began, self.outcomes, self.holders = phase, self.epoch + 1, now, [], {}
        self.probed = now
        if phase is Phase.CLOSED:
            self.window = now

    def time(self, now: int) -> None:
        if self.phase is Phase.OPEN and now - self.began >= RULES.open_ms:
            self.begin(Phase.HALF_OPEN, now)
        if now - self.window >= RULES.window_ms:
            self.window = now
        self.holders = {name: then for name, then in self.holders.items() if now - then < RULES.trial_ms}

    def may_call(self, name: str, now: int) -> bool:
        if self.phase is Phase.HALF_OPEN:
            successes = sum(good for _, good in self.outcomes)
            if len(self.holders) < min(RULES.successes, 1 + successes):
                self.holders[name] = now
                return True
        return self.phase is Phase.CLOSED

    def ended(self, call: Call, now: int, *, good: bool | None) -> None:
        if call.epoch != self.epoch:
            return
        if self.phase is Phase.HALF_OPEN and call.name not in self.holders:
            return
        made = self.holders.pop(call.name, now)
        if good is None:
            return
        self.outcomes.append((now, good))
        row = [good for _, good in self.outcomes]
        recent = [good for moment, good in self.outcomes if moment >= self.window]
        if self.phase is Phase.HALF_OPEN:
            if not good:
                self.begin(Phase.OPEN, now)
                self.probed = made
            elif sum(row) == RULES.successes:
                self.begin(Phase.CLOSED, now)
        elif not good and (
            row[-RULES.failures :] == [False] * RULES.failures
            or (len(recent) >= RULES.window_calls and recent.count(False) * 2 >= len(recent))
        ):
            self.begin(Phase.OPEN, now)


class Callers(RuleBasedStateMachine):
    """Any number of callers at once, who take their time, fail, give up and are forgotten."""

    calls: Bundle[Call] = Bundle("calls")

    def __init__(self) -> None:
        super().__init__()
        self.circuit, self.told, self.now, self.number = Circuit(), Told(), 0, 0

    def step(self, operation: Admit | Report | Look | Answered) -> bool:
        self.told.time(self.now)
        return self.circuit.apply(RULES, operation, self.now)

    @rule(target=calls)
    def call(self) -> Call:
        self.number += 1
        name = f"call-{self.number}"
        admitted = self.step(Admit(name))
        assert admitted == self.told.may_call(name, self.now)
        return Call(name, self.circuit.epoch if admitted else -1)

    @rule(call=consumes(calls), good=st.booleans())
    def end(self, call: Call, good: bool) -> None:
        trial = call.name if self.circuit.trials else ""
        self.step(Report(call.epoch, trial, good=int(good), bad=int(not good)))
        self.told.ended(call, self.now, good=good)

    @rule(call=consumes(calls))
    def give_up(self, call: Call) -> None:
        self.step(Report(call.epoch, call.name))
        self.told.ended(call, self.now, good=None)

    @rule(milliseconds=st.sampled_from([1, 100, 4_999, 5_000, 9_999, 30_000, 60_000, 120_000]))
    def wait(self, milliseconds: int) -> None:
        self.now += milliseconds

    @rule(answered=st.booleans())
    def look(self, answered: bool) -> None:
        asked = self.step(Look())
        due = self.told.phase is Phase.OPEN and self.now - self.told.probed >= RULES.probe_ms
        assert asked == due
        if asked:
            self.told.probed = self.now
            if answered:
                self.step(Answered(self.circuit.epoch))
                self.told.begin(Phase.HALF_OPEN, self.now)

    @invariant()
    def as_told(self) -> None:
        assert (self.circuit.phase, self.circuit.epoch) == (self.told.phase, self.told.epoch)
        assert self.circuit.trials.keys() == self.told.holders.keys()
        assert len(self.circuit.trials) <= RULES.successes


TestCallers = Callers.TestCase
TestCallers.settings = settings(max_examples=100, stateful_step_count=60, deadline=None)
