"""A reviewer's stream: what it is sent while Postgres is away, when transactions overlap, and when the replica goes."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any

from agent_runtime import v1
from agent_runtime_server.core.errors import StoreUnavailable
from agent_runtime_server.core.observe import Nobody
from agent_runtime_server.engine.asking import Performer
from agent_runtime_server.engine.hub import Hub, Timing
from agent_runtime_server.engine.relay import Alone
from agent_runtime_server.engine.reviews import Position, Reviews
from agent_runtime_server.rpc import hitl as hitl_module
from agent_runtime_server.rpc.hitl import HitlService
from agent_runtime_server.rpc.replica import Replica
from agent_runtime_server.rpc.service import Call
from agent_runtime_server.stores.base import ApprovalQuery, History, ListedApproval
from agent_runtime_server.stores.postgres.histories import PostgresHistories
from enginekit.model import Scripted
from enginekit.turns import turns

EVERYTHING = ApprovalQuery("local", 0)


class Store:
    """Approvals in memory; a transaction that stays open holds the horizon back."""

    def __init__(self) -> None:
        self.rows: dict[str, v1.Approval] = {}
        self.away = False

    def put(self, approval_id: str, revision: int, state: "v1.ApprovalState.ValueType") -> None:
        self.rows[approval_id] = v1.Approval(approval_id=approval_id, revision=revision, state=state)

    async def horizon(self) -> int:
        if self.away:
            raise StoreUnavailable("away")
        return 7

    async def list_approvals(self, query: ApprovalQuery) -> Sequence[ListedApproval]:
        wanted = [one for one in self.rows.values() if not query.states or one.state in query.states]
        return [ListedApproval(v1.Approval.FromString(one.SerializeToString()), "coder", NOW) for one in wanted]

    async def changed_since(self, _xid: int) -> bool:
        return True


NOW = datetime.now(UTC)


async def test_a_resolved_approval_is_told_once_while_another_transaction_is_open() -> None:
    store = Store()
    reviews = Reviews(store)  # type: ignore[arg-type] # the part of it that is used
    position = Position(7)
    store.put("a", 2, v1.APPROVAL_STATE_APPROVED)
    told = [len(await reviews.changes(EVERYTHING, position)) for _ in range(3)]
    assert told == [1, 0, 0]


class Requests:
    """A reviewer's frames; the stream stays open behind them."""

    def __init__(self, *frames: v1.HitlRequest) -> None:
        self._frames = list(frames)

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> v1.HitlRequest:
        if not self._frames:
            await asyncio.Event().wait()
        return self._frames.pop(0)


def begin(store: Store, tasks: asyncio.TaskGroup, *frames: v1.HitlRequest) -> tuple[Replica, Any]:
    reviews = Reviews(store)  # type: ignore[arg-type]
    services: Any = type("Services", (), {"approvals": store, "leaving": asyncio.Event()})()
    hub = Hub(Performer(Scripted(), services, 0), None, None, Timing())  # type: ignore[arg-type]
    histories = PostgresHistories(None, History(None, store), (), Alone(), Nobody())  # type: ignore[arg-type]
    replica = Replica("r", "0", hub, reviews, services, histories, tasks, 15, 90)
    hello = v1.HitlRequest(hello=v1.HitlHello(client_id="c", protocol_version=1))
    return replica, HitlService(replica).hitl(Requests(hello, *frames), Call("Hitl", "c", "", {}))


async def until(responses: Any, kind: str) -> v1.HitlResponse:
    async with asyncio.timeout(10):
        async for response in responses:
            if response.WhichOneof("frame") == kind:
                return response  # type: ignore[no-any-return]
    raise AssertionError(f"no {kind} came")


async def test_the_stream_outlives_postgres_and_tells_then_what_it_missed(monkeypatch: Any) -> None:
    monkeypatch.setattr(hitl_module, "_RETRY_SECONDS", 0.01)
    store = Store()
    async with asyncio.TaskGroup() as tasks:
        replica, responses = begin(store, tasks, v1.HitlRequest(ping=v1.Ping(nonce=5)))
        await until(responses, "caught_up")
        store.put("a", 1, v1.APPROVAL_STATE_PENDING)
        store.away = True
        replica.reviews.changed()
        assert (await until(responses, "heartbeat")).heartbeat.ping_nonce == 5
        asyncio.get_running_loop().call_later(0.05, setattr, store, "away", False)
        assert (await until(responses, "approval")).approval.approval_id == "a"
        await responses.aclose()


async def test_reviewers_are_told_that_the_replica_goes_and_are_counted_until_they_left() -> None:
    async with asyncio.TaskGroup() as tasks:
        replica, responses = begin(Store(), tasks)
        await until(responses, "caught_up")
        assert replica.streams == 1
        replica.leave(10)
        go_away = (await until(responses, "go_away")).go_away
        assert go_away.reason == v1.GoAway.REASON_DRAINING
        assert go_away.time_left.ToTimedelta().total_seconds() == 10
        assert go_away.reconnect_delay.ToTimedelta().total_seconds() <= 5
        await responses.aclose()
        assert replica.streams == 0


async def test_answers_that_a_reviewer_does_not_take_stop_its_frames() -> None:
    pings = [v1.HitlRequest(ping=v1.Ping(nonce=number)) for number in range(1, 1000)]
    async with asyncio.TaskGroup() as tasks:
        _, responses = begin(Store(), tasks, *pings)
        await until(responses, "welcome")
        for _ in range(40):
            await turns()
        desk = responses.ag_frame.f_locals["desk"]
        assert len(desk.answers) == hitl_module._MOST_ANSWERS
        async with asyncio.timeout(10):
            while (await until(responses, "heartbeat")).heartbeat.ping_nonce != 999:
                pass
        await responses.aclose()
