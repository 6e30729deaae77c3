"""The stores of a replica, opened as the settings say."""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta

from agent_runtime_server.core.observe import Observer
from agent_runtime_server.core.settings import Settings
from agent_runtime_server.ground import store_urls
from agent_runtime_server.stores.base import History
from agent_runtime_server.stores.postgres.approvals import PostgresApprovals
from agent_runtime_server.stores.postgres.clock import DatabaseClock
from agent_runtime_server.stores.postgres.database import Database, open_database
from agent_runtime_server.stores.postgres.histories import PostgresHistories
from agent_runtime_server.stores.postgres.leases import PostgresLeases, Presence, announce
from agent_runtime_server.stores.postgres.log import PostgresLog
from agent_runtime_server.stores.postgres.migrations import migrate
from agent_runtime_server.stores.postgres.parked import PostgresParkedTurns
from agent_runtime_server.stores.postgres.replicas import Replica as DatabaseReplica
from agent_runtime_server.stores.postgres.replicas import name_of
from agent_runtime_server.stores.postgres.retention import PostgresRetention
from agent_runtime_server.stores.postgres.writer import Writer
from agent_runtime_server.stores.redis import Cache, open_cache
from agent_runtime_server.stores.redis.bus import RedisBus

_REPLICA_SECONDS = 2  # then a read goes to another server


@dataclass(frozen=True, slots=True)
class Stores:
    """The stores of this replica."""

    database: Database
    cache: Cache
    bus: RedisBus
    writer: Writer
    log: PostgresLog
    approvals: PostgresApprovals
    leases: PostgresLeases
    parked: PostgresParkedTurns
    presence: Presence
    clock: DatabaseClock
    retention: PostgresRetention
    histories: PostgresHistories


async def open_stores(stack: AsyncExitStack, settings: Settings, observer: Observer) -> Stores:
    """Open the stores of this replica until the stack ends, with their tables as this version needs them."""
    database_url, redis_url = await store_urls(stack, settings)
    others = settings.database_connections - 2  # one commits, one shows that this replica lives
    database = await stack.enter_async_context(open_database(database_url, most_connections=others, observer=observer))
    commits = await stack.enter_async_context(
        open_database(database_url, name="commits", most_connections=1, idle_seconds=0, observer=observer)
    )
    cache = await stack.enter_async_context(open_cache(redis_url))
    await migrate(database)
    clock = DatabaseClock(database)
    await clock.look()
    presence = await stack.enter_async_context(announce(database_url))
    lease = timedelta(seconds=settings.lease_seconds)
    writer = Writer(commits, presence.replica, lease, observer)
    bus = cache.bus(str(presence.replica))
    log, approvals = PostgresLog(database, writer, presence.replica), PostgresApprovals(database)
    replicas = await _open_replicas(stack, settings, writer, presence, observer)
    return Stores(
        database,
        cache,
        bus,
        writer,
        log,
        approvals,
        PostgresLeases(database, presence, lease),
        PostgresParkedTurns(database),
        presence,
        clock,
        PostgresRetention(database),
        PostgresHistories(database, History(log, approvals), replicas, bus, observer),
    )


async def _open_replicas(
    stack: AsyncExitStack, settings: Settings, writer: Writer, presence: Presence, observer: Observer
) -> Sequence[DatabaseReplica]:
    """Return the database's read replicas, which need not be there."""
    replicas = []
    for url in settings.replica_urls:
        name = name_of(url)
        opening = open_database(
            url,
            name=f"replica {name}",
            least_connections=0,
            most_connections=settings.database_replica_connections,
            answer_seconds=_REPLICA_SECONDS,
            observer=observer,
        )
        database = await stack.enter_async_context(opening)
        history = History(PostgresLog(database, writer, presence.replica), PostgresApprovals(database))
        replicas.append(DatabaseReplica(name, database, history, settings.database_replica_lag_seconds))
    return replicas
