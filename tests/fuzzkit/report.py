"""What a run has found, for people."""

from collections import Counter
from collections.abc import Iterator

from fuzzkit.answers import Answers
from fuzzkit.run import MOST_GROWTH, Outcome

_MOST_ROWS = 14


def answers_table(answers: Answers) -> str:
    """Return what became of the broken answers of models."""
    read = f"{answers.streams:,} of {answers.bytes:,} bytes, each in one piece and cut into many"
    return f"answers of models   {read}; {_counts(answers.endings)}"


def table(outcome: Outcome) -> str:
    """Return what was done and seen."""
    return "\n".join(_lines(outcome))


def _lines(outcome: Outcome) -> Iterator[str]:
    tally, watch = outcome.tally, outcome.watch
    sizes = [size >> 20 for _, size in watch.sizes] or [0]
    yield f"seed                {outcome.seed}"
    yield f"frames sent         {tally.frames:,} in {outcome.seconds:.0f} s, {tally.answers:,} answers"
    yield f"calls               {_counts(tally.plays)}"
    yield f"how they ended      {_counts(tally.statuses)}"
    yield f"frames answered     {_counts(tally.acks)}"
    yield f"canary              {watch.turns} turns, slowest {watch.slowest_turn:.2f} s"
    yield f"health              {watch.checks} times SERVING, slowest {watch.slowest_check:.2f} s"
    yield f"faults in the log   {len(outcome.faults)}"
    yield f"sessions afterwards {outcome.opened} opened by a new process"
    grown = f"{watch.growth() / (1 << 20):+.1f} MiB from the first third to the last, allowed {MOST_GROWTH >> 20}"
    yield f"memory              {sizes[0]} MiB, at most {max(sizes)}; {grown}"
    yield f"held for sessions   {watch.held / (1 << 20):.1f} MiB of content at the end"
    yield f"findings            {len(outcome.findings)}"


def _counts(counter: Counter[str]) -> str:
    rows = [f"{count:,} {name}" for name, count in counter.most_common(_MOST_ROWS)]
    rest = sum(counter.values()) - sum(count for _, count in counter.most_common(_MOST_ROWS))
    return ", ".join([*rows, *([f"{rest:,} others"] if rest else [])])
