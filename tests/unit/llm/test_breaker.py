"""A replica knows the circuits well enough to ask for nothing while all is well."""

import pytest
from structlog.testing import capture_logs

from agent_runtime_server.core.circuit import Circuit, Operation, Phase, Rules
from agent_runtime_server.core.errors import ModelUnavailable, StoreUnavailable
from agent_runtime_server.llm.breaker import Breaker, CircuitOpen
from agent_runtime_server.stores.shared import Stepped

RULES = Rules()


class Shared:
    """Circuits of all replicas, by a clock of their own, that may be away."""

    def __init__(self) -> None:
        self.circuit = Circuit()
        self.now = 5_000_000
        self.away = False
        self.asked: list[Operation] = []

    async def apply(self, name: str, operation: Operation) -> Stepped:
        assert name == "host:1|m"
        if self.away:
            raise StoreUnavailable("away")
        self.asked.append(operation)
        answer = self.circuit.apply(RULES, operation, self.now)
        return Stepped(answer, Circuit(**{name: getattr(self.circuit, name) for name in Circuit.__slots__}), self.now)


class Endpoint:
    """Answers probes, or not."""

    def __init__(self) -> None:
        self.down = False
        self.probes = 0

    async def __call__(self) -> None:
        self.probes += 1
        if self.down:
            raise ModelUnavailable("still down")


class Bench:
    """Two replicas, their clocks, and what they share."""

    def __init__(self, *, shared: bool = True) -> None:
        self.shared = Shared()
        self.seconds = 100.0
        self.changes: list[Phase] = []
        self.endpoint = Endpoint()
        circuits = self.shared if shared else None
        self.one, self.other = (
            Breaker("host:1", "m", RULES, circuits, self._changed, clock=lambda: self.seconds) for _ in range(2)
        )

    def _changed(self, breaker: Breaker) -> None:
        self.changes.append(breaker.circuit.phase)

    def wait(self, seconds: float) -> None:
        self.seconds += seconds
        self.shared.now += int(seconds * 1000)

    async def fail(self, times: int = 5) -> None:
        for _ in range(times):
            await self.one.failed(await self.one.admit())

    async def keep(self) -> None:
        for breaker in (self.one, self.other):
            await breaker.keep(self.endpoint)


async def phase(breaker: Breaker) -> Phase:
    return breaker.circuit.phase


async def test_while_closed_calls_cost_no_round_trip() -> None:
    bench = Bench()
    for _ in range(100):
        bench.one.succeeded(await bench.one.admit())
    assert bench.shared.asked == []
    await bench.one.keep(bench.endpoint)
    assert bench.shared.circuit.good == 100


async def test_what_one_replica_finds_out_holds_for_the_others() -> None:
    bench = Bench()
    with capture_logs() as logs:
        await bench.fail()
    assert [entry["event"] for entry in logs] == ["circuit_open"]
    await bench.keep()
    for breaker in (bench.one, bench.other):
        assert breaker.room() == 0
        with pytest.raises(CircuitOpen, match="m has failed"):
            await breaker.admit()


async def test_answers_that_began_before_others_failed_do_not_hide_that_they_fail() -> None:
    bench = Bench()
    under_way = [await bench.one.admit() for _ in range(5)]
    for permit in under_way:
        await bench.one.failed(await bench.one.admit())
        bench.one.succeeded(permit)
    assert await phase(bench.one) is Phase.OPEN


@pytest.mark.parametrize("seen_to_begin", [True, False])
async def test_an_answer_since_shows_that_not_all_fail(seen_to_begin: bool) -> None:
    bench = Bench()
    for _ in range(8):
        await bench.one.failed(await bench.one.admit())
        permit = await bench.one.admit()
        if seen_to_begin:
            bench.one.began(permit)
        bench.one.succeeded(permit)
    assert await phase(bench.one) is Phase.CLOSED
    assert bench.shared.circuit.failures == 1


async def test_answers_that_all_break_off_open_it_although_they_began() -> None:
    bench = Bench()
    for _ in range(5):
        permit = await bench.one.admit()
        bench.one.began(permit)
        await bench.one.failed(permit)
    assert await phase(bench.one) is Phase.OPEN


async def test_one_probe_for_all_replicas_lets_one_call_through_early() -> None:
    bench = Bench()
    await bench.fail()
    bench.wait(5)
    await bench.keep()
    assert bench.endpoint.probes == 1
    assert bench.one.room() == 1
    permit = await bench.one.admit()
    assert permit.trial
    with pytest.raises(CircuitOpen):
        await bench.other.admit()
    bench.one.succeeded(permit)
    await bench.keep()
    assert bench.other.room() == 2


async def test_it_says_when_a_probe_is_due() -> None:
    bench = Bench()
    due = [bench.one.probe_in]
    await bench.fail()
    for seconds in (2, 10):
        bench.wait(seconds)
        due.append(bench.one.probe_in)
    await bench.keep()
    due.append(bench.one.probe_in)
    assert due == [None, 3, 0, None]


async def test_a_probe_that_fails_leaves_it_open() -> None:
    bench = Bench()
    await bench.fail()
    bench.endpoint.down = True
    bench.wait(5)
    await bench.keep()
    assert (bench.endpoint.probes, bench.one.room()) == (1, 0)


async def test_the_shared_clock_says_when_it_is_tried_again() -> None:
    bench = Bench()
    await bench.fail()
    assert bench.one.retry_time == bench.seconds + 60
    bench.wait(60)
    assert bench.one.room() == 1
    assert (await bench.one.admit()).trial


async def test_a_call_nobody_waits_for_gives_its_place_back() -> None:
    bench = Bench()
    await bench.fail()
    bench.wait(60)
    bench.one.gave_up(await bench.one.admit())
    assert bench.one.room() == 0
    await bench.keep()
    assert bench.one.room() == 1


@pytest.mark.parametrize("shared", [True, False])
async def test_without_redis_each_replica_goes_on_alone(shared: bool) -> None:
    bench = Bench(shared=shared)
    bench.shared.away = True
    await bench.fail()
    assert await phase(bench.one) is Phase.OPEN
    assert await phase(bench.other) is Phase.CLOSED
    assert not bench.one.shared
    bench.wait(5)
    await bench.keep()
    for _ in range(3):
        bench.one.succeeded(await bench.one.admit())
        await bench.keep()
    assert await phase(bench.one) is Phase.CLOSED
    assert bench.changes.count(Phase.CLOSED) == 1


async def test_a_lost_redis_is_asked_again_in_the_background_only() -> None:
    bench = Bench()
    bench.shared.away = True
    await bench.fail(1)
    bench.shared.away = False
    await bench.fail(1)
    assert bench.shared.asked == []
    await bench.keep()
    assert bench.one.shared


async def test_reports_of_calls_from_before_it_opened_count_for_nothing() -> None:
    bench = Bench()
    early = await bench.one.admit()
    await bench.fail()
    await bench.one.failed(early)
    bench.one.succeeded(early)
    await bench.keep()
    assert await phase(bench.one) is Phase.OPEN
