"""How the findings of probes become states."""

import asyncio
from contextlib import suppress

import pytest

from agent_runtime import v1
from agent_runtime_server.core.clock import now
from agent_runtime_server.core.errors import StoreUnavailable
from agent_runtime_server.rpc.health import Health
from agent_runtime_server.rpc.probes import Findings, Prober, clean

UP, DEGRADED, DOWN = v1.DEPENDENCY_STATE_UP, v1.DEPENDENCY_STATE_DEGRADED, v1.DEPENDENCY_STATE_DOWN


class Patient:
    """A dependency that is as well as the test says."""

    def __init__(self, problem: Exception | None = None) -> None:
        self.problem = problem

    async def __call__(self) -> None:
        if self.problem is not None:
            raise self.problem


async def hang() -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("problems", "state"),
    [
        ([""], UP),
        (["gone"], DEGRADED),
        (["gone", "gone"], DOWN),
        (["gone", "", "gone"], DEGRADED),
        (["gone", "gone", "gone"], DOWN),
        (["gone", "gone", ""], DOWN),
        (["gone", "gone", "", "gone", ""], DOWN),
        (["gone", "gone", "", ""], UP),
    ],
)
def test_two_failures_mean_down_and_two_successes_up(problems: list[str], state: v1.DependencyState.ValueType) -> None:
    found = Findings("redis", required=False)
    for problem in problems:
        found.observe(problem, 0.001, now())
    assert found.state == state


def test_slow_answers_mean_degraded() -> None:
    found = Findings("redis", required=False)
    found.observe("", 0.6, now())
    assert found.state == DEGRADED


async def test_a_required_dependency_decides_about_serving() -> None:
    health = Health(["a.Service"])
    postgres = Patient()
    prober = Prober({"postgres": postgres}, health)
    assert health.state("") is False
    await prober.probe_all()
    assert health.state("") is health.state("a.Service") is health.state("dependency.postgres") is True
    postgres.problem = StoreUnavailable("gone")
    await prober.probe_all()
    assert health.state("") is True
    await prober.probe_all()
    assert health.state("") is health.state("a.Service") is health.state("dependency.postgres") is False
    postgres.problem = None
    await prober.probe_all()
    assert health.state("") is False, "it may be gone again at once"
    await prober.probe_all()
    assert health.state("") is True


@pytest.mark.parametrize("name", ["redis", "llm", "background"])
async def test_other_dependencies_tell_their_own_state_alone(name: str) -> None:
    health = Health(["a.Service"])
    prober = Prober({"postgres": Patient(), name: Patient(StoreUnavailable("gone"))}, health)
    assert health.state(f"dependency.{name}") is True
    await prober.probe_all()
    await prober.probe_all()
    assert health.state(f"dependency.{name}") is False
    assert health.state("") is True


async def test_a_silent_dependency_is_given_up() -> None:
    prober = Prober({"redis": hang}, Health([]), timeout=0.01)
    await prober.probe_all()
    await prober.probe_all()
    (found,) = prober.dependencies()
    assert (found.state, found.message) == (DOWN, "no answer within 0.01 s")


async def test_what_is_known_is_told() -> None:
    prober = Prober({"postgres": Patient(), "redis": Patient(ValueError("password=x"))}, Health([]))
    await prober.probe_all()
    postgres, redis = prober.dependencies()
    assert (postgres.name, postgres.state, postgres.required, postgres.message) == ("postgres", UP, True, "")
    assert postgres.HasField("check_time")
    assert postgres.latency.ToTimedelta().total_seconds() < 1
    assert (redis.required, redis.message) == (False, "the probe failed with ValueError")


async def test_probing_goes_on_until_it_is_cancelled() -> None:
    rounds = 0
    enough = asyncio.Event()

    async def probe() -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 3:
            enough.set()

    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(Prober({"postgres": probe}, Health([]), interval=0.001).run())
        await asyncio.wait_for(enough.wait(), 5)
        running.cancel()
    assert rounds >= 3


def test_draining_is_for_good() -> None:
    health = Health(["a.Service"])
    health.set("dependency.postgres", serving=True)
    health.draining()
    health.set("dependency.redis", serving=True)
    health.set("dependency.postgres", serving=True)
    assert health.state("") is health.state("a.Service") is False
    assert health.state("dependency.postgres") is True


def test_nothing_that_a_restart_does_not_mend_asks_for_one() -> None:
    health = Health(["a.Service"])
    assert health.state("") is False
    assert health.state("liveness") is True
    health.draining()
    assert health.state("liveness") is True


def test_an_unknown_dependency_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        Health([]).set("dependency.mongo", serving=True)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cannot reach postgres://bob:hunter2@db:5432/x", "cannot reach postgres://***@db:5432/x"),
        ("Authorization: Bearer abc.def", "Authorization: ***"),
        ("sent bearer abc.def", "sent bearer ***"),
        ("password=hunter2 refused", "password=*** refused"),
        ("bad key sk-abcdef123456", "bad key ***"),
        ("db:5432 refuses connections", "db:5432 refuses connections"),
    ],
)
def test_messages_show_no_secrets(text: str, shown: str) -> None:
    assert clean(text) == shown


async def test_a_probe_that_swallows_its_cancellation_keeps_nobody_from_ending() -> None:
    asked, began = asyncio.Event(), asyncio.Event()

    async def deaf() -> None:
        began.set()
        with suppress(asyncio.CancelledError):
            await asked.wait()

    prober = Prober({"postgres": deaf}, Health(()), interval=0, timeout=60)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(prober.run())
        await began.wait()
        running.cancel()
        await asyncio.wait({running}, timeout=30)
    assert running.cancelled()
