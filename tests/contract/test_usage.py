"""What is spent in a day is counted once, by all replicas together, and bounded."""

from datetime import date, timedelta

import pytest

from agent_runtime import v1
from agent_runtime_server.core.errors import CallerError, StoreUnavailable
from agent_runtime_server.engine.ledger import DayBudget, Ledger
from agent_runtime_server.stores.postgres.usage import PostgresUsage
from agent_runtime_server.stores.shared import DayUsage, Spender
from enginekit.stores import Stores

TODAY = date(2026, 3, 1)
ANN, BOB, EVE = Spender("acme", "ann"), Spender("acme", "bob"), Spender("other", "ann")
CALL = v1.Usage(input_tokens=90, output_tokens=10, model_calls=1, cost_micros=7)
NOTHING = v1.Usage()


@pytest.fixture
def store(stores: Stores) -> PostgresUsage:
    return PostgresUsage(stores.database)


@pytest.fixture
def ledgers(store: PostgresUsage) -> list[Ledger]:
    """Two replicas that allow a user 250 tokens a day, and a tenant 420."""
    return [Ledger(store, lambda: TODAY, DayBudget(250), DayBudget(420)) for _ in range(2)]


async def spend(ledger: Ledger, spender: Spender, usage: v1.Usage = CALL, expected: v1.Usage = NOTHING) -> str:
    """Make a call; returns the budget that refuses it."""
    await ledger.look(spender)
    try:
        with ledger.call(spender, expected):
            ledger.count(spender, usage)
    except CallerError as error:
        return error.metadata["budget"]
    return ""


async def test_usage_adds_up_by_day_and_subject(store: PostgresUsage) -> None:
    yesterday = TODAY - timedelta(days=1)
    for _ in range(2):
        await store.add({(ANN, TODAY): CALL, (ANN, yesterday): CALL, (BOB, TODAY): CALL, (EVE, TODAY): CALL})
    double = v1.Usage(input_tokens=180, output_tokens=20, model_calls=2, cost_micros=14)
    assert await store.days("acme", yesterday, TODAY, None, 10) == [
        DayUsage(TODAY, "ann", double),
        DayUsage(TODAY, "bob", double),
        DayUsage(yesterday, "ann", double),
    ]
    assert [one.day for one in await store.days("acme", yesterday, TODAY, "ann", 10)] == [TODAY, yesterday]
    totals = await store.totals(TODAY, [ANN])
    assert (totals[ANN].input_tokens, totals[Spender("acme", "")].input_tokens) == (180, 360)


async def test_a_user_is_refused_when_the_day_is_used_up_and_others_are_not(ledgers: list[Ledger]) -> None:
    ledger = ledgers[0]
    assert [await spend(ledger, ANN) for _ in range(4)] == ["", "", "", "user.day.tokens"]
    assert await spend(ledger, EVE) == ""


async def test_a_tenant_is_bounded_by_what_all_of_its_users_spend(ledgers: list[Ledger]) -> None:
    ledger = ledgers[0]
    refusals = [await spend(ledger, spender) for spender in (ANN, ANN, BOB, BOB, Spender("acme", "eve"))]
    assert refusals == ["", "", "", "", ""]
    assert await spend(ledger, Spender("acme", "dan")) == "tenant.day.tokens"


async def test_what_is_set_aside_for_calls_under_way_is_not_given_twice(ledgers: list[Ledger]) -> None:
    ledger = ledgers[0]
    await ledger.look(ANN)
    with ledger.call(ANN, CALL), ledger.call(ANN, CALL):
        assert await spend(ledger, ANN, expected=CALL) == "user.day.tokens"
    assert await spend(ledger, ANN, expected=CALL) == ""


async def test_replicas_learn_of_each_other(ledgers: list[Ledger], store: PostgresUsage) -> None:
    one, other = ledgers
    assert await spend(one, ANN) == await spend(other, ANN) == ""
    await one.flush()
    await other.flush()
    assert await spend(other, ANN) == ""
    await other.flush()
    await one.flush()
    assert await spend(one, ANN) == "user.day.tokens"
    [counted] = await store.days("acme", TODAY, TODAY, None, 10)
    assert counted.usage.model_calls == 3, "nothing is lost, and nothing counted twice"


async def test_a_new_day_begins_with_nothing(store: PostgresUsage) -> None:
    days = [TODAY]
    ledger = Ledger(store, lambda: days[-1], DayBudget(cost_micros=10))
    assert [await spend(ledger, ANN) for _ in range(3)] == ["", "", "user.day.cost"]
    await ledger.flush()
    days.append(TODAY + timedelta(days=1))
    assert await spend(ledger, ANN) == ""


async def test_steps_of_a_day_are_bounded_and_each_call_under_way_is_one(store: PostgresUsage) -> None:
    ledger = Ledger(store, lambda: TODAY, DayBudget(steps=3))
    await ledger.look(ANN)
    assert await spend(ledger, ANN) == ""
    with ledger.call(ANN, NOTHING), ledger.call(ANN, NOTHING):
        assert await spend(ledger, ANN) == "user.day.steps"
    assert [await spend(ledger, ANN) for _ in range(3)] == ["", "", "user.day.steps"]


async def test_tool_calls_of_a_day_are_refused_one_by_one_and_then_no_model_is_asked(store: PostgresUsage) -> None:
    ledger = Ledger(store, lambda: TODAY, DayBudget(tool_calls=5), DayBudget(tool_calls=4))
    await ledger.look(ANN)
    assert ledger.beyond(ANN, 4) == {}
    ledger.count(ANN, v1.Usage(tool_calls=3))
    assert ledger.beyond(ANN, 3) == {1: "the tenant had all tool calls of today", 2: ledger.beyond(ANN, 3)[1]}
    assert ledger.beyond(EVE, 3) == {}
    ledger.count(BOB, v1.Usage(tool_calls=1))
    assert await spend(ledger, ANN) == "", "an answer without calls may still come"
    ledger.count(BOB, v1.Usage(tool_calls=1))
    assert await spend(ledger, ANN) == "tenant.day.tool_calls"
    assert await spend(ledger, EVE) == ""


async def test_seconds_of_a_day_are_bounded_and_set_aside_as_steps_usually_take(store: PostgresUsage) -> None:
    one, other = (Ledger(store, lambda: TODAY, DayBudget(seconds=10)) for _ in range(2))
    one.count(ANN, v1.Usage(worked_millis=6500))
    await one.flush()
    await other.look(ANN)
    step = v1.Usage(worked_millis=3000)
    with other.call(ANN, step):
        assert await spend(other, ANN, expected=step) == "user.day.seconds"
    assert await spend(other, ANN, expected=step) == ""
    other.count(ANN, v1.Usage(worked_millis=3500))
    assert await spend(other, ANN) == "user.day.seconds"
    await other.flush()
    [counted] = await store.days("acme", TODAY, TODAY, None, 10)
    assert (counted.usage.worked_millis, counted.usage.model_calls) == (10_000, 1)


async def test_what_cannot_be_counted_now_is_counted_later_and_still_holds(
    store: PostgresUsage, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(store, lambda: TODAY, DayBudget(250))
    with monkeypatch.context() as outage:
        outage.setattr(PostgresUsage, "add", _away)
        assert [await spend(ledger, ANN) for _ in range(2)] == ["", ""]
        for _ in range(2):
            await ledger.flush()
        assert [await spend(ledger, ANN), await spend(ledger, ANN)] == ["", "user.day.tokens"]
    await ledger.flush()
    [counted] = await store.days("acme", TODAY, TODAY, None, 10)
    assert counted.usage.model_calls == 3


async def test_what_cannot_be_looked_at_after_counting_is_looked_at_again(
    store: PostgresUsage, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(store, lambda: TODAY, DayBudget(250))
    assert [await spend(ledger, ANN) for _ in range(3)] == ["", "", ""]
    with monkeypatch.context() as outage:
        outage.setattr(PostgresUsage, "totals", _away)
        await ledger.flush()
    assert await spend(ledger, ANN) == "user.day.tokens"


async def test_a_fault_of_the_counting_loses_nothing_and_is_told(
    store: PostgresUsage, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(store, lambda: TODAY)
    ledger.count(ANN, CALL)
    with monkeypatch.context() as fault:
        fault.setattr(PostgresUsage, "add", _broken)
        with pytest.raises(LookupError):
            await ledger.flush()
    await ledger.flush()
    [counted] = await store.days("acme", TODAY, TODAY, None, 10)
    assert counted.usage == CALL


async def test_without_limits_nothing_is_asked(store: PostgresUsage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PostgresUsage, "totals", _broken)
    ledger = Ledger(store, lambda: TODAY)
    assert await spend(ledger, ANN) == ""
    await ledger.flush()


async def _away(*_arguments: object) -> None:
    raise StoreUnavailable("Postgres is away")


async def _broken(*_arguments: object) -> None:
    raise LookupError("a bug")
