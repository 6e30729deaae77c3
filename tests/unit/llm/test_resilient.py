"""A model goes on when endpoints fail: it asks again, leaves alone what does not answer, and asks others."""

import asyncio
from collections import Counter, deque
from collections.abc import Sequence
from datetime import timedelta

import pytest

from agent_runtime import v1
from agent_runtime_server.core.circuit import Phase, Rules
from agent_runtime_server.core.errors import ModelBrokeOff, ModelRejected, ModelUnavailable
from agent_runtime_server.core.observe import Nobody
from agent_runtime_server.llm.base import Channel, Delay, Delta, Hold, ModelAnswer, ModelRequest, Sink
from agent_runtime_server.llm.breaker import CircuitOpen
from agent_runtime_server.llm.profile import Profile
from agent_runtime_server.llm.resilient import Choice, Patience, Resilient

REQUEST = ModelRequest("m", ({"role": "user", "content": "hello"},))
HASTY = Patience(calls=4, seconds=5, first_wait=0.001, longest_wait=0.002)
DOWN = ModelUnavailable("HTTP 503", kind="http_503")


class Endpoint:
    """Does what a test has put down, and answers when that is nothing more."""

    def __init__(self, address: str = "host:1") -> None:
        self.address = address
        self.asked: list[ModelRequest] = []
        self.plays: deque[Exception | str] = deque()
        self.broken: Exception | None = None
        self.probes = 0

    async def answer(self, request: ModelRequest, sink: Sink | None = None) -> ModelAnswer:
        self.asked.append(request)
        play = self.plays.popleft() if self.plays else self.broken or "done"
        if isinstance(play, str) and play.endswith("…"):
            assert sink is not None
            sink([Delta(Channel.TEXT, play)])
            raise ModelUnavailable("cut", kind="cut")
        if isinstance(play, Exception):
            raise play
        if sink is not None:
            sink([Delta(Channel.TEXT, play)])
        return ModelAnswer(play, "", (), v1.Usage(), "stop", request.model)

    async def probe(self) -> None:
        self.probes += 1
        if self.broken is not None:
            raise ModelUnavailable("down")

    async def aclose(self) -> None:
        pass


class Seen(Nobody):
    """Counts what it is told."""

    def __init__(self) -> None:
        self.calls: Counter[tuple[str, str]] = Counter()
        self.phases: list[Phase] = []

    def model_called(self, model: str, status: str, seconds: float) -> None:
        self.calls[model, status] += 1

    def circuit_changed(self, endpoint: str, model: str, phase: Phase) -> None:
        self.phases.append(phase)


@pytest.fixture
def endpoint() -> Endpoint:
    return Endpoint()


@pytest.fixture
def other() -> Endpoint:
    return Endpoint("other:1")


def model(*choices: Choice | Endpoint, observer: Nobody | None = None, rules: Rules | None = None) -> Resilient:
    made = [one if isinstance(one, Choice) else Choice(one) for one in choices]
    return Resilient(made, patience=HASTY, observer=observer, rules=rules)


async def test_a_call_that_fails_is_made_again_and_the_wait_is_told(endpoint: Endpoint) -> None:
    endpoint.plays += [DOWN, DOWN]
    told: list[Delay] = []
    answer = await model(endpoint).answer(REQUEST, lambda _: None, told.append)
    assert answer.text == "done"
    assert [(one.hold, one.reason, one.call_number) for one in told] == [
        (Hold.RETRY, "HTTP 503", 2), (Hold.RETRY, "HTTP 503", 3),
    ]  # fmt: skip


async def test_the_wait_that_is_asked_for_is_kept(endpoint: Endpoint) -> None:
    endpoint.plays.append(ModelUnavailable("HTTP 429", kind="http_429", retry_delay=timedelta(seconds=0.2)))
    told: list[Delay] = []
    began = asyncio.get_running_loop().time()
    await model(endpoint).answer(REQUEST, None, told.append)
    assert asyncio.get_running_loop().time() - began >= 0.19
    assert told[0].seconds >= 0.2


async def test_others_keep_quiet_too_while_an_endpoint_has_asked_for_it(endpoint: Endpoint) -> None:
    endpoint.plays.append(ModelUnavailable("HTTP 429", kind="http_429", retry_delay=timedelta(seconds=60)))
    made = model(endpoint)
    for _ in range(2):
        with pytest.raises(ModelUnavailable) as caught:
            await made.answer(REQUEST)
        assert caught.value.retry_delay is not None
        assert caught.value.retry_delay > timedelta(seconds=50)
    assert len(endpoint.asked) == 1
    assert made.room("m") == 0


async def test_a_refused_request_is_not_made_again(endpoint: Endpoint, other: Endpoint) -> None:
    endpoint.plays.append(ModelRejected("HTTP 400"))
    with pytest.raises(ModelRejected):
        await model(endpoint, other).answer(REQUEST)
    assert (len(endpoint.asked), len(other.asked)) == (1, 0)


async def test_what_an_endpoint_refuses_for_itself_another_is_asked(endpoint: Endpoint, other: Endpoint) -> None:
    endpoint.plays.append(ModelRejected("HTTP 401", elsewhere=True))
    assert (await model(endpoint, other).answer(REQUEST)).text == "done"


async def test_nothing_is_asked_again_behind_text_that_was_shown(endpoint: Endpoint, other: Endpoint) -> None:
    endpoint.plays.append("Half an…")
    with pytest.raises(ModelBrokeOff):
        await model(endpoint, other).answer(REQUEST, lambda _: None)
    assert (len(endpoint.asked), len(other.asked)) == (1, 0)


async def test_calls_are_bounded(endpoint: Endpoint) -> None:
    endpoint.broken = DOWN
    with pytest.raises(ModelUnavailable, match="HTTP 503"):
        await model(endpoint).answer(REQUEST)
    assert len(endpoint.asked) == HASTY.calls


async def test_retries_are_a_bounded_share_of_all_calls(endpoint: Endpoint) -> None:
    never_open = Rules(failures=10**6, window_percent=101)
    endpoint.broken = DOWN
    made = model(endpoint, rules=never_open)
    for _ in range(100):
        with pytest.raises(ModelUnavailable):
            await made.answer(REQUEST)
    assert 100 < len(endpoint.asked) <= 100 + 10 + 0.2 * len(endpoint.asked) + 2


async def test_an_endpoint_that_fails_is_left_alone(endpoint: Endpoint) -> None:
    endpoint.broken = DOWN
    seen = Seen()
    made = model(endpoint, observer=seen)
    for _ in range(50):
        with pytest.raises(ModelUnavailable):
            await made.answer(REQUEST)
    assert len(endpoint.asked) == 5
    assert seen.calls == {("m", "http_503"): 5}
    assert seen.phases == [Phase.OPEN]
    assert made.room("m") == 0
    with pytest.raises(CircuitOpen):
        await made._line(0, made._choices[0], "m").breaker.admit()
    with pytest.raises(ModelUnavailable):
        await made.probe()
    assert endpoint.probes == 0, "health believes the circuit, whose own probes find the endpoint back"


@pytest.mark.parametrize("failure", [
    ModelRejected("HTTP 400"), ModelUnavailable("HTTP 429", kind="http_429"), ModelUnavailable("x", kind="http_409"),
])  # fmt: skip
async def test_what_is_not_the_endpoints_fault_opens_no_circuit(endpoint: Endpoint, failure: Exception) -> None:
    endpoint.broken = failure
    made = model(endpoint)
    for _ in range(20):
        with pytest.raises(type(failure)):
            await made.answer(REQUEST)
    assert made.breakers[0].circuit.phase is Phase.CLOSED


async def test_a_fallback_answers_and_this_is_told(endpoint: Endpoint, other: Endpoint) -> None:
    endpoint.broken = DOWN
    told: list[Delay] = []
    made = model(endpoint, Choice(other, model="small"))
    for _ in range(10):
        assert (await made.answer(REQUEST, None, told.append)).model == "small"
    assert told[-1] == Delay(Hold.FALLBACK, "m has failed and is left alone for a while", 0, "small", 1)
    assert len(endpoint.asked) == 5
    assert made.room("m") > 0


async def test_models_that_cannot_take_a_request_are_passed_over(endpoint: Endpoint, other: Endpoint) -> None:
    endpoint.broken = other.broken = DOWN
    last = Endpoint("last:1")
    choices = (Choice(endpoint), Choice(other, Profile(tools=False), "no tools"), Choice(last, Profile(context=9000)))
    asked = ModelRequest("m", ({"role": "user", "content": "hello"},), tools=({"type": "function"},))
    assert (await model(*choices).answer(asked)).text == "done"
    assert other.asked == []
    long = ModelRequest("m", ({"role": "user", "content": "hello " * 9000},))
    with pytest.raises(ModelUnavailable):
        await model(*choices).answer(long)
    assert len(last.asked) == 1


async def test_a_turn_may_wait_when_every_model_failed_and_one_may_come_back(
    endpoint: Endpoint, other: Endpoint
) -> None:
    endpoint.plays.append(ModelRejected("HTTP 401", elsewhere=True))
    other.broken = DOWN
    with pytest.raises(ModelUnavailable, match="HTTP 503"):
        await model(endpoint, other).answer(REQUEST)
    other.broken = ModelRejected("HTTP 404", elsewhere=True)
    endpoint.broken = ModelRejected("HTTP 401", elsewhere=True)
    with pytest.raises(ModelRejected, match="401"):
        await model(endpoint, other).answer(REQUEST)


async def test_the_circuit_closes_by_itself_when_the_endpoint_is_back(endpoint: Endpoint) -> None:
    endpoint.broken = DOWN
    seen = Seen()
    made = model(endpoint, observer=seen, rules=Rules(probe_ms=10))
    changed = asyncio.Event()
    made.on_change(changed.set)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(made.run())
        with pytest.raises(ModelUnavailable):
            await made.answer(REQUEST)
        with pytest.raises(ModelUnavailable):
            await made.answer(REQUEST)
        endpoint.broken = None
        async with asyncio.timeout(20):
            while made.breakers[0].circuit.phase is not Phase.CLOSED:
                changed.clear()
                if made.room("m"):
                    await made.answer(REQUEST)
                await changed.wait()
        running.cancel()
    assert seen.phases == [Phase.OPEN, Phase.HALF_OPEN, Phase.CLOSED]


async def test_a_cancelled_call_says_nothing_of_the_endpoint(endpoint: Endpoint) -> None:
    made = model(endpoint)
    begun = asyncio.Event()

    async def hang(request: ModelRequest, sink: Sink | None = None) -> ModelAnswer:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError("never")

    endpoint.answer = hang  # type: ignore[method-assign]
    seen = Seen()
    made._observer = seen
    async with asyncio.TaskGroup() as tasks:
        asking = tasks.create_task(made.answer(REQUEST))
        await begun.wait()
        asking.cancel()
    assert seen.calls == {("m", "cancelled"): 1}
    assert made.breakers[0].circuit.failures == 0


async def test_what_is_shown_is_passed_on_as_it_comes(endpoint: Endpoint) -> None:
    shown: list[Sequence[Delta]] = []
    await model(endpoint).answer(REQUEST, shown.append)
    assert shown == [[Delta(Channel.TEXT, "done")]]
