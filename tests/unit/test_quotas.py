"""Who has used up a quota waits, and is told for which and how long."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from agent_runtime import v1
from agent_runtime_server.core.buckets import Buckets, Draw, Drawn
from agent_runtime_server.core.errors import CallerError, StoreUnavailable
from agent_runtime_server.core.principal import Principal
from agent_runtime_server.core.quotas import Kind, parse
from agent_runtime_server.rpc.access import ACCESS
from agent_runtime_server.rpc.quotas import Quotas, kind_of

ANN, BOB, EVE = Principal("acme", "ann"), Principal("acme", "bob"), Principal("other", "ann")
GET = "agent_runtime.v1.SessionService.GetSession"


@dataclass
class Clock:
    """A clock that tests set."""

    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Shared:
    """What replicas share, while it is there."""

    away: bool = False
    asked: int = 0
    buckets: Buckets = field(default_factory=Buckets)

    async def take(self, draws: Sequence[Draw]) -> Drawn:
        self.asked += 1
        if self.away:
            raise StoreUnavailable("Redis is unavailable")
        return self.buckets.take(draws, 0)


async def refusal(quotas: Quotas, who: Principal, *, turn: bool = True) -> CallerError | None:
    try:
        await (quotas.turn(who) if turn else quotas.request(who, GET))
    except CallerError as error:
        return error
    return None


async def passed(quotas: Quotas, who: Principal, times: int = 20) -> int:
    return sum([await refusal(quotas, who) is None for _ in range(times)])


async def test_a_user_waits_for_their_own_turns_and_a_tenant_for_those_of_all() -> None:
    quotas = Quotas(parse("user.turn=3/m,tenant.turn=5/m"), clock=Clock())
    assert [await passed(quotas, who) for who in (ANN, BOB, EVE)] == [3, 2, 3]


async def test_a_refusal_names_the_quota_and_the_wait() -> None:
    clock = Clock()
    quotas = Quotas(parse("user.turn=2/m"), clock=clock)
    await passed(quotas, ANN, 2)
    error = await refusal(quotas, ANN)
    assert error is not None
    assert error.reason == v1.ERROR_REASON_QUOTA_EXCEEDED
    assert str(error) == "the limit of 2 turns a minute for user:ann is reached; try again in 30.0 s"
    assert error.metadata == {"quota": "user.turn", "subject": "user:ann", "limit": "2 turns a minute"}
    assert error.retry_delay is not None
    clock.now += error.retry_delay.total_seconds()
    assert await refusal(quotas, ANN) is None


async def test_tokens_that_were_spent_keep_the_next_turn_waiting() -> None:
    clock = Clock()
    quotas = Quotas(parse("tenant.token=1000/m"), clock=clock)
    assert await refusal(quotas, ANN) is None
    await quotas.spent("acme", "ann", v1.Usage(input_tokens=1500, output_tokens=499))
    error = await refusal(quotas, BOB)
    assert error is not None
    assert error.metadata["quota"] == "tenant.token"
    assert await refusal(quotas, EVE) is None
    clock.now += 60
    assert await refusal(quotas, BOB) is None


async def test_requests_are_counted_by_their_class_and_in_all() -> None:
    quotas = Quotas(parse("user.read=5/m,user.request=3/m,user.write=1/m"), clock=Clock())
    answers = [await refusal(quotas, ANN, turn=False) for _ in range(4)]
    assert [answer and answer.metadata["quota"] for answer in answers] == [None, None, None, "user.request"]


async def test_nobody_is_asked_where_nothing_is_limited() -> None:
    shared = Shared()
    quotas = Quotas(parse("user.write=1/m"), shared)
    await quotas.turn(ANN)
    await quotas.request(ANN, GET)
    await quotas.spent("acme", "ann", v1.Usage(input_tokens=5))
    assert shared.asked == 0


async def test_without_redis_each_replica_grants_its_share() -> None:
    clock, shared = Clock(), Shared(away=True)
    quotas = Quotas(parse("user.turn=12/m"), shared, lambda: 3, clock=clock)
    assert await passed(quotas, ANN) == 4
    assert shared.asked == 1, "what is away is not asked for every call"
    shared.away = False
    clock.now += 2
    assert await passed(quotas, ANN) == 12


def test_every_method_has_its_class() -> None:
    kinds = {method: kind_of(method) for method in ACCESS if not method.startswith("ChatRequest")}
    assert [name for name, kind in kinds.items() if kind is Kind.STREAM] == [
        "ChatService.Chat",
        "HitlService.Hitl",
        "EventService.SubscribeEvents",
    ]
    assert [name for name, kind in kinds.items() if kind is Kind.WRITE] == [
        "ChatService.SubmitFrame",
        "HitlService.DecideApproval",
        "SessionService.CreateSession",
        "SessionService.UpdateSession",
        "SessionService.CloseSession",
        "SessionService.ForkSession",
    ]
