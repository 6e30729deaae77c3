"""The command line; `scripts/fuzz` runs it."""

import argparse
import asyncio
import random
import sys

from fuzzkit.answers import read_answers
from fuzzkit.report import answers_table, table
from fuzzkit.run import Outcome, Size, again, run

_MOST_TOLD = 30


def main() -> int:
    """Fuzz, and say what came of it; 1 when something does not hold."""
    parser = argparse.ArgumentParser(prog="fuzz", description="Send a server hostile frames of every kind, and look.")
    parser.add_argument("--frames", type=int, default=1_000_000, help="frames to send (1,000,000)")
    parser.add_argument("--minutes", type=float, default=10, help="and for how long at most (10)")
    parser.add_argument("--processes", type=int, default=3, help="client processes (3)")
    parser.add_argument("--answers", type=int, default=20_000, help="broken answers of models to read (20,000)")
    parser.add_argument("--seed", default="", help="makes the same plays again; a new one is made up and printed")
    parser.add_argument("--again", metavar="SEED", help="play one play of a finding again, and nothing else")
    asked = parser.parse_args()
    if asked.again:
        return _told(asyncio.run(again(asked.again)), [])
    seed = asked.seed or f"{random.SystemRandom().getrandbits(32):08x}"
    answers = read_answers(seed, asked.answers)
    sys.stdout.write(f"{answers_table(answers)}\n")
    unmet = [f"an answer of a model, seed {which}: {what}" for which, what in answers.findings]
    size = Size(asked.frames, asked.minutes * 60, asked.processes)
    return _told(asyncio.run(run(seed, size, _tell)), unmet)


def _told(outcome: Outcome, unmet: list[str]) -> int:
    sys.stdout.write(f"{table(outcome)}\n")
    unmet = [*unmet, *outcome.unmet()]
    for line in unmet[:_MOST_TOLD]:
        _tell(f"fuzz: {line}")
    return 1 if unmet else 0


def _tell(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
