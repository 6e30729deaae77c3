"""The composition root: with `storage` the only place that names concrete stores, models and services."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import version

import grpc.aio
import structlog

from agent_runtime import v1
from agent_runtime_server.agents.registry import builtin
from agent_runtime_server.core.errors import StoreUnavailable
from agent_runtime_server.core.ids import new_id
from agent_runtime_server.core.observe import ModelObserver, Observer
from agent_runtime_server.core.prices import Prices
from agent_runtime_server.core.settings import Settings
from agent_runtime_server.endpoints import open_model
from agent_runtime_server.engine.asking import Performer
from agent_runtime_server.engine.hub import Hub, Timing
from agent_runtime_server.engine.ledger import DayBudget, Ledger
from agent_runtime_server.engine.limits import Budget, Limits
from agent_runtime_server.engine.retention import Keeper, Policy
from agent_runtime_server.engine.reviews import Reviews
from agent_runtime_server.engine.services import Services
from agent_runtime_server.entrance import entrance, listen, options
from agent_runtime_server.ground import Place, mock_model_url
from agent_runtime_server.llm.base import Models
from agent_runtime_server.llm.resilient import Resilient
from agent_runtime_server.rpc.admission import Admission, Capacity
from agent_runtime_server.rpc.agents import AgentService
from agent_runtime_server.rpc.aio_server import AioServer
from agent_runtime_server.rpc.chat import ChatService
from agent_runtime_server.rpc.drain import drain
from agent_runtime_server.rpc.events import EventService
from agent_runtime_server.rpc.gate import Gate
from agent_runtime_server.rpc.health import DEPENDENCIES, PREFIX, Health
from agent_runtime_server.rpc.hitl import HitlService
from agent_runtime_server.rpc.probes import Prober
from agent_runtime_server.rpc.quotas import Quotas
from agent_runtime_server.rpc.reflection import Reflection
from agent_runtime_server.rpc.replica import Replica
from agent_runtime_server.rpc.service import handlers
from agent_runtime_server.rpc.sessions import SessionService
from agent_runtime_server.rpc.system import SystemService
from agent_runtime_server.storage import Stores, open_stores
from agent_runtime_server.stores.postgres.histories import PostgresHistories
from agent_runtime_server.stores.postgres.keys import PostgresKeys
from agent_runtime_server.stores.postgres.leases import Presence
from agent_runtime_server.stores.postgres.usage import PostgresUsage
from agent_runtime_server.stores.shared import Spender
from agent_runtime_server.telemetry.lag import watch_lag
from agent_runtime_server.telemetry.metrics import Metrics, served
from agent_runtime_server.telemetry.models import ModelMetrics

_log = structlog.get_logger(__name__)

_END_SECONDS = 2
MOCK_NOTICE = "The built-in mock model answers; set AGENT_RUNTIME_LLM_BASE_URL to reach a real one."

SERVICES = tuple(f"agent_runtime.v1.{name}Service" for name in ("Chat", "Hitl", "Session", "Event", "Agent", "System"))
"""Full names of what is served, in the order of their implementations."""


Dependencies = Callable[[], Sequence[v1.Dependency]]


@dataclass(frozen=True, slots=True)
class Running:
    """A server that serves."""

    address: str
    metrics_port: int


@asynccontextmanager
async def running(settings: Settings, place: Place, hurry: asyncio.Event) -> AsyncIterator[Running]:
    """Serve while the block runs, then drain, unless in a hurry; whatever background work fails ends the block."""
    async with AsyncExitStack() as stack:
        metrics = Metrics()
        stores = await open_stores(stack, settings, metrics)
        calls = ModelMetrics(metrics.registry)
        model_url, notices = await _model_url(stack, settings, place)
        model = open_model(stack, settings, model_url, stores.cache.circuits, calls)
        presence = stores.presence
        quotas = Quotas(settings.quotas, stores.cache.buckets(), lambda: presence.replicas, metrics)
        gate = await stack.enter_async_context(entrance(settings, PostgresKeys(stores.database), quotas))
        async with asyncio.TaskGroup() as tasks:
            ledger = _ledger(settings, stores)
            replica = _replica(settings, stores, model, notices, tasks, calls, quotas, ledger)
            replica.admission = _admission(settings, stores, replica.hub, metrics)
            _show_work(metrics, replica, model)
            metrics_host = "127.0.0.1" if place.is_worker else place.host
            metrics_port = stack.enter_context(served(metrics.registry, metrics_host, place.metrics_port))
            health, prober = _health(stores, model, replica)
            _show_dependencies(metrics, health)
            background = [
                tasks.create_task(stores.writer.run(), name="group commit"),
                tasks.create_task(stores.bus.run(), name="bus"),
                tasks.create_task(stores.clock.run(), name="clock"),
                tasks.create_task(stores.histories.run(), name="database replicas"),
                tasks.create_task(ledger.run(), name="usage"),
                tasks.create_task(_keep_presence(stores.presence, replica.hub), name="presence"),
                tasks.create_task(model.run(), name="circuits"),
                tasks.create_task(replica.hub.run(), name="hub"),
                tasks.create_task(replica.reviews.run(), name="reviews"),
                tasks.create_task(_keeper(settings, stores, replica).run(), name="retention"),
                tasks.create_task(prober.run(), name="probes"),
                tasks.create_task(watch_lag(metrics.loop_late, replica.admission.late), name="event loop lag"),
                tasks.create_task(gate.streams.run(), name="credentials of streams"),
            ]
            dependencies = _dependencies(prober, stores.histories)
            server = _server(settings, place, replica, gate, health, dependencies, model, ledger)
            await prober.probe_all()
            # From here on connections come in, so nothing may keep them waiting for the server's start.
            bound = listen(server, settings, place.host, place.port)
            await server.start()
            try:
                yield Running(f"{place.host}:{bound}", metrics_port)
            except BaseException:
                hurry.set()
                raise
            finally:
                await drain(server, replica, health, settings.drain_seconds, hurry)
                for task in reversed(background):  # the writer outlives those who write
                    await _end(task)


async def _model_url(stack: AsyncExitStack, settings: Settings, place: Place) -> tuple[str, tuple[str, ...]]:
    """Return where the model is, and what clients have to be told of it."""
    if settings.llm_base_url is not None:
        return settings.llm_base_url, ()
    _log.warning(MOCK_NOTICE)
    return place.mock_url or await mock_model_url(stack), (MOCK_NOTICE,)


def _show_work(metrics: Metrics, replica: Replica, model: Resilient) -> None:
    """Let metrics show what this replica has to do now."""
    hub = replica.hub
    metrics.watch("open_streams", "Streams of chats, reviewers and feeds.", lambda: replica.streams)
    metrics.watch("loaded_sessions", "Sessions held in memory.", lambda: hub.loaded_sessions)
    metrics.watch("loaded_sessions_bytes", "Content held for them.", lambda: hub.kept_bytes)
    metrics.watch("active_sessions", "Sessions with a running step.", lambda: hub.active_sessions)
    metrics.watch("parked_turns", "Turns that wait for a model, on any replica.", lambda: hub.parking.count)
    metrics.watch("llm_calls_waiting", "Calls of models that wait for their turn.", lambda: model.waiting)


async def _end(task: "asyncio.Task[None]") -> None:
    """Cancel a task until it has ended: a cancellation that meets another failure can be lost in a task group."""
    task.cancel()
    while not (await asyncio.wait({task}, timeout=_END_SECONDS))[0]:
        _log.warning("a background task does not end; it is told again", task=task.get_name())
        task.cancel()


def _replica(
    settings: Settings,
    stores: Stores,
    model: Models,
    notices: tuple[str, ...],
    tasks: asyncio.TaskGroup,
    observer: ModelObserver,
    quotas: Quotas,
    ledger: Ledger,
) -> Replica:
    reviews = Reviews(stores.approvals)
    services = _shared_services(settings, stores, reviews, observer, ledger)
    performer = Performer(
        model, services, settings.stream_window_ms / 1000, observer, quotas.spent, Prices(settings.llm_prices), ledger
    )
    timing = Timing(
        lease_seconds=settings.lease_seconds,
        heartbeat_seconds=settings.heartbeat_seconds,
        client_idle_seconds=settings.client_idle_seconds,
        stream_seconds=settings.stream_seconds,
    )
    return Replica(
        replica_id=f"{socket.gethostname()}:{os.getpid()}",
        version=version("agent-runtime"),
        hub=Hub(performer, stores.leases, stores.parked, timing),
        reviews=reviews,
        services=services,
        histories=stores.histories,
        tasks=tasks,
        heartbeat_seconds=settings.heartbeat_seconds,
        client_idle_seconds=settings.client_idle_seconds,
        max_stream_age_seconds=settings.stream_seconds,
        notices=notices,
        forbid_self_approval=settings.auth_forbid_self_approval,
        quotas=quotas,
    )


def _shared_services(
    settings: Settings, stores: Stores, reviews: Reviews, observer: ModelObserver, ledger: Ledger
) -> Services:
    def worked(spender: Spender, usage: v1.Usage) -> None:
        ledger.count(spender, usage)
        observer.turns_worked(spender.tenant, usage)

    return Services(
        log=stores.log,
        approvals=stores.approvals,
        agents=builtin(),
        limits=_limits(settings),
        clock=stores.clock,
        new_id=new_id,
        bus=stores.bus,
        committed=reviews.committed,
        worked=worked,
    )


def _admission(settings: Settings, stores: Stores, hub: Hub, observer: Observer) -> Admission:
    capacity = Capacity(settings.max_running_turns, settings.max_queued_commits, settings.max_lag_ms / 1000)
    return Admission(
        capacity,
        lambda: hub.active_sessions,
        lambda: stores.writer.waiting,
        lambda: hub.active_tenants,
        settings.tenant_weights,
        observer,
    )


def _ledger(settings: Settings, stores: Stores) -> Ledger:
    return Ledger(
        PostgresUsage(stores.database),
        lambda: datetime.fromtimestamp(stores.clock().seconds, UTC).date(),
        DayBudget(
            settings.user_day_tokens,
            round(settings.user_day_cost * 1e6),
            settings.user_day_steps,
            settings.user_day_tool_calls,
            settings.user_day_seconds,
        ),
        DayBudget(
            settings.tenant_day_tokens,
            round(settings.tenant_day_cost * 1e6),
            settings.tenant_day_steps,
            settings.tenant_day_tool_calls,
            settings.tenant_day_seconds,
        ),
    )


def _keeper(settings: Settings, stores: Stores, replica: Replica) -> Keeper:
    days = settings.session_ttl_days
    policy = Policy(
        keep_events=settings.retain_events,
        idle=None if days is None else timedelta(days=days),
        buried_after=timedelta(seconds=settings.session_grace_seconds),
    )
    return Keeper(replica.hub, stores.log, stores.retention, policy)


def _limits(settings: Settings) -> Limits:
    return Limits(
        model=settings.llm_model,
        approval_seconds=settings.hitl_timeout,
        approval_action=settings.hitl_timeout_action.value,
        turn_seconds=settings.turn_seconds,
        turn_steps=settings.turn_steps,
        turn_bytes=settings.turn_bytes,
        turn_handoffs=settings.turn_handoffs,
        park_seconds=settings.llm_park_seconds,
        budget=_budget(settings),
    )


def _budget(settings: Settings) -> Budget:
    return Budget(
        tokens=settings.turn_tokens,
        cost_micros=round(settings.turn_cost * 1e6),
        tool_calls=settings.turn_tool_calls,
        session_tokens=settings.session_tokens,
        session_cost_micros=round(settings.session_cost * 1e6),
        session_steps=settings.session_steps,
        session_tool_calls=settings.session_tool_calls,
        session_seconds=settings.session_seconds,
        ask_percent=settings.budget_ask_percent,
    )


def _services(replica: Replica, dependencies: Dependencies, model: Resilient, ledger: Ledger) -> dict[str, object]:
    """Return every service by its full name."""
    implementations = (
        ChatService(replica),
        HitlService(replica),
        SessionService(replica),
        EventService(replica),
        AgentService(replica),
        SystemService(replica, dependencies, lambda: model.breakers, ledger),
    )
    return dict(zip(SERVICES, implementations, strict=True))


def _health(stores: Stores, model: Resilient, replica: Replica) -> tuple[Health, Prober]:
    health = Health(SERVICES)
    probes: dict[str, Callable[[], Awaitable[None]]] = {
        "postgres": stores.database.probe,
        "redis": stores.cache.probe,
        "llm": model.probe,
        "background": replica.hub.probe,
    }
    return health, Prober(probes, health)


def _show_dependencies(metrics: Metrics, health: Health) -> None:
    def show(name: str) -> None:
        text = "Whether a dependency is there: 1 or 0."
        metrics.watch("dependency_up", text, lambda: bool(health.state(PREFIX + name)), dependency=name)

    for name in DEPENDENCIES:
        show(name)


def _dependencies(prober: Prober, histories: PostgresHistories) -> Dependencies:
    return lambda: [*prober.dependencies(), *histories.dependencies()]


def _server(
    settings: Settings,
    place: Place,
    replica: Replica,
    gate: Gate,
    health: Health,
    dependencies: Dependencies,
    model: Resilient,
    ledger: Ledger,
) -> grpc.aio.Server:
    server = AioServer(options(settings, shares_port=place.is_worker))
    services = _services(replica, dependencies, model, ledger)
    ours = [handlers(name, service, gate=gate) for name, service in services.items()]
    reflection = Reflection((*SERVICES, "grpc.health.v1.Health"))
    server.add_generic_rpc_handlers((*ours, health.handler(), *reflection.handlers()))
    return server


async def _keep_presence(presence: Presence, hub: Hub) -> None:
    """Show every second that this replica lives; when it seemed dead, others may have taken over what it runs."""
    while True:
        await asyncio.sleep(1)
        try:
            if not await presence.keep():
                hub.check_leases()
        except StoreUnavailable:
            continue
