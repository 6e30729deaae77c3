"""The command line; `scripts/outage` runs it."""

import argparse
import asyncio
import sys

from outagekit.outage import run, table
from outagekit.world import Size


def main() -> int:
    """Take the stores away and say what came of it; 1 when a turn failed or a frame was lost."""
    parser = argparse.ArgumentParser(prog="outage", description="Kill Redis, then Postgres, under load, and look.")
    parser.add_argument("--redis", type=float, default=60, help="seconds without Redis, 0 for never (60)")
    parser.add_argument("--postgres", type=float, default=30, help="seconds without Postgres, 0 for never (30)")
    parser.add_argument("--servers", type=int, default=2, help="servers on the same stores (2)")
    parser.add_argument("--processes", type=int, default=2, help="client processes (2)")
    parser.add_argument("--chats", type=int, default=5, help="chats of each client process (5)")
    asked = parser.parse_args()
    size = Size(asked.servers, asked.processes, asked.chats)
    outcome = asyncio.run(run(asked.redis, asked.postgres, size, calm=10, tell=_tell))
    sys.stdout.write(f"{table(outcome)}\n")
    return 0 if outcome.clean else 1


def _tell(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
