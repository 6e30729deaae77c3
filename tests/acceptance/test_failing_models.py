"""Whatever a model endpoint does wrong, no turn is lost, and none fails that a model could still answer."""

from collections.abc import AsyncIterator

import pytest

from agent_runtime import v1
from chaoskit.endpoint import Endpoint, Fault, endpoint, in_bursts, often
from chaoskit.play import Schedule, play
from servicekit.process import ServerProcess, serving
from servicekit.service import Service

TURNS = 15
SETTINGS = {"AGENT_RUNTIME_LLM_FIRST_TOKEN_SECONDS": "20", "AGENT_RUNTIME_LLM_IDLE_SECONDS": "20"}


@pytest.fixture(scope="module")
async def model() -> AsyncIterator[Endpoint]:
    async with endpoint(0.5) as made:
        yield made


@pytest.fixture(scope="module")
async def server(model: Endpoint) -> AsyncIterator[ServerProcess]:
    async with serving(SETTINGS | {"AGENT_RUNTIME_LLM_BASE_URL": model.base_url}) as made:
        yield made


@pytest.fixture(scope="module")
async def service(server: ServerProcess) -> AsyncIterator[Service]:
    made = Service(server.target)
    async with made.channel:
        yield made


@pytest.mark.parametrize(
    "schedule",
    [
        Schedule("429", often(Fault.THROTTLED, 0.5), 2),
        Schedule("503", in_bursts(Fault.UNAVAILABLE, 1, 1), 3),
        Schedule("reset and cut", often(Fault.RESET_MID, 0.3), 2),
        Schedule("truncated", often(Fault.TRUNCATED, 0.3), 2),
        Schedule("outage", lambda _: Fault.GONE, 4),
    ],
    ids=lambda schedule: schedule.name,
)
@pytest.mark.timeout(300)
async def test_no_turn_is_lost_or_fails(service: Service, model: Endpoint, schedule: Schedule) -> None:
    outcome = await play(service, model, schedule, turns=TURNS, before=1, after=1)
    assert (outcome.lost, outcome.failed) == (0, 0)
    assert outcome.turns >= TURNS
    if schedule.name == "outage":
        assert outcome.after_parking > 0
        assert outcome.calls_meanwhile <= 3 * TURNS, "those that were under way, and no storm of others"
        status = await service.system.GetServerStatus(v1.GetServerStatusRequest())
        assert [breaker.model for breaker in status.circuit_breakers] == ["default"]
        assert status.circuit_breakers[0].shared
