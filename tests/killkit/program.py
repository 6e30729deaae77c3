"""The command line of the matrix; `scripts/killmatrix` runs it."""

import argparse
import asyncio
import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Coroutine, Sequence
from pathlib import Path

from killkit.faults import Kind, plan
from killkit.matrix import Outcome, run_matrix
from killkit.report import document, table
from killkit.world import Size


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the matrix and return an exit status: 1 when something did not hold."""
    asked = _parser().parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="killmatrix-", dir="/tmp"))
    folder.chmod(0o711)  # the stores may run as another account
    faults = plan(asked.runs, asked.seed, [Kind[name.strip().upper()] for name in asked.faults.split(",")])
    size = Size(clients=asked.clients, seats=asked.seats, lease_seconds=asked.lease)
    run = run_matrix(folder, faults, worlds=asked.worlds, size=size, seed=asked.seed, minutes=asked.minutes, tell=_tell)
    try:
        outcome = asyncio.run(_interruptible(run))
    except (KeyboardInterrupt, asyncio.CancelledError):
        shutil.rmtree(folder, ignore_errors=True)
        return 130
    _say(table(outcome))
    if asked.json:
        Path(asked.json).write_text(json.dumps(document(outcome), indent=1) + "\n")
    if asked.keep or not outcome.clean:
        _say(f"the records of the worlds are kept in {folder}")
        return 0 if outcome.clean else 1
    shutil.rmtree(folder)
    return 0


async def _interruptible(run: Coroutine[object, object, Outcome]) -> Outcome:
    """Let SIGTERM end the run in order, as SIGINT does."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await run


def _parser() -> argparse.ArgumentParser:
    kinds = ",".join(kind.name.lower() for kind in Kind)
    parser = argparse.ArgumentParser(prog="killmatrix", description="Kill, cut and stall everything, and check all.")
    parser.add_argument("--runs", type=int, default=1000, help="number of faults (1000)")
    parser.add_argument("--seed", type=int, default=1, help="decides which faults come, and in which order (1)")
    parser.add_argument("--minutes", type=float, default=60, help="begin no fault after so many minutes (60)")
    parser.add_argument("--worlds", type=int, default=2, help="worlds side by side, 3 replicas each (2)")
    parser.add_argument("--clients", type=int, default=3, help="client programs of each world (3)")
    parser.add_argument("--seats", type=int, default=2, help="sessions of each client program (2)")
    parser.add_argument("--lease", type=float, default=10, help="lease of a running step in seconds (10)")
    parser.add_argument("--faults", default=kinds, metavar="KIND,...", help=f"only these kinds, of: {kinds}")
    parser.add_argument("--keep", action="store_true", help="keep the records of the worlds in any case")
    parser.add_argument("--json", metavar="FILE", help="write what was measured there")
    return parser


def _tell(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
