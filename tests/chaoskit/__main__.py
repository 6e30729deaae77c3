"""Play every schedule and print the table; exit with an error where a demand is not met."""

import argparse
import asyncio
import sys
from collections.abc import Callable

from benchkit.processes import KIT_PATH
from chaoskit.endpoint import Endpoint, Fault, endpoint, in_bursts, often
from chaoskit.play import HEADER, Outcome, Schedule, play
from servicekit.process import serving
from servicekit.service import Service

ANSWER_SECONDS = 4.0
SETTINGS = {
    "AGENT_RUNTIME_LLM_FIRST_TOKEN_SECONDS": "5",
    "AGENT_RUNTIME_LLM_IDLE_SECONDS": "3",
    "AGENT_RUNTIME_LOG_LEVEL": "ERROR",
}
PLAIN_PROGRAM = ("chaoskit.plain_server",)
PLAIN = {**KIT_PATH, "AGENT_RUNTIME_LLM_CALLS": str(10**9), "AGENT_RUNTIME_LLM_RETRY_SECONDS": "1800"}
"""Settings under which a step goes on calling, where a turn would be parked."""


def schedules(seconds: float) -> list[Schedule]:
    """Return what an endpoint does in turn."""
    return [
        Schedule("429 with Retry-After, half of the calls", often(Fault.THROTTLED, 0.5), seconds),
        Schedule("bursts of 503", in_bursts(Fault.UNAVAILABLE, 2, 4), seconds),
        Schedule("hang before the first byte, a third", often(Fault.HANG, 0.33), seconds),
        Schedule("hang mid-stream, a third", often(Fault.HANG_MID, 0.33), seconds),
        Schedule("reset mid-stream, a third", often(Fault.RESET_MID, 0.33), seconds),
        Schedule("truncated JSON, a third", often(Fault.TRUNCATED, 0.33), seconds),
        Schedule("slow drip, all", often(Fault.DRIP, 1), seconds),
        Schedule("flapping, 5 s each", in_bursts(Fault.GONE, 5, 5), 2 * seconds),
    ]


def outage(seconds: float, name: str = "total outage") -> Schedule:
    """Return a time in which nothing answers."""
    return Schedule(f"{name}, {seconds:g} s", lambda _: Fault.GONE, seconds)


async def rows(seconds: float, outage_seconds: float, turns: int, told: Callable[[Outcome], None]) -> list[str]:
    """Play everything; return the demands that are not met."""
    unmet = []

    def hold(outcome: Outcome, *, may_park: bool = True) -> None:
        told(outcome)
        if outcome.lost or outcome.failed:
            unmet.append(f"{outcome.name}: {outcome.lost} turns lost, {outcome.failed} failed")
        if outcome.after_parking and not may_park:
            unmet.append(f"{outcome.name}: {outcome.after_parking} turns waited although a model answered")
        if outcome.recovered is None or outcome.recovered > 10:
            unmet.append(f"{outcome.name}: the full rate was not back after 10 s")

    async with endpoint(ANSWER_SECONDS) as model, endpoint(ANSWER_SECONDS) as other:
        url = {"AGENT_RUNTIME_LLM_BASE_URL": model.base_url}
        async with serving(SETTINGS | url) as server:
            for schedule in (*schedules(seconds), outage(outage_seconds)):
                last = await _played(server.target, model, schedule, turns)
                hold(last)
        fallback = {"AGENT_RUNTIME_LLM_FALLBACK_MODELS": f"other@{other.base_url}"}
        async with serving(SETTINGS | url | fallback) as server:
            schedule = outage(seconds, "total outage with a fallback")
            hold(await _played(server.target, model, schedule, turns), may_park=False)
        async with serving(SETTINGS | url | PLAIN, program=PLAIN_PROGRAM) as server:
            schedule = outage(outage_seconds, "the same with retries alone")
            without = await _played(server.target, model, schedule, turns)
            told(without)
    share = last.calls_meanwhile / max(1, without.calls_meanwhile)
    print(f"\ncalls during the outage: {share:.2%} of those with retries alone; besides {last.probes_meanwhile} probes")
    if share > 0.01:
        unmet.append("more than 1 % of the calls with retries alone were made during the outage")
    return unmet


async def _played(target: str, model: Endpoint, schedule: Schedule, turns: int) -> Outcome:
    service = Service(target)
    async with service.channel:
        return await play(service, model, schedule, turns=turns)


def main() -> int:
    """Read the arguments, play, and say what is not as it should be."""
    parser = argparse.ArgumentParser(prog="chaos-llm", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="an outage of 20 s instead of 3 min, and shorter faults")
    parser.add_argument("--turns", type=int, default=200, help="turns at once (200)")
    parser.add_argument("--outage", type=float, help="seconds of the outage")
    options = parser.parse_args()
    seconds, outage_seconds = (8, 20) if options.quick else (15, 180)
    outage_seconds = options.outage or outage_seconds
    print(HEADER, flush=True)
    unmet = asyncio.run(rows(seconds, outage_seconds, options.turns, lambda one: print(one.row(), flush=True)))
    for line in unmet:
        print(f"chaos-llm: {line}", file=sys.stderr)
    return 1 if unmet else 0


if __name__ == "__main__":
    sys.exit(main())
