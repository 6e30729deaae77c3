"""Prometheus metrics of this process, and the port on which any are served."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    start_http_server,
)

from agent_runtime_server.core.observe import Batch

_BYTES = tuple(4**power for power in range(4, 13))
_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_LATENCIES = (0.001, 0.002, 0.003, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 1, 5)
_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5)


class _Commits:
    """What is told of group commits."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._batch = Histogram(
            "agent_runtime_commit_batch_appends",
            "Appends in one group commit.",
            buckets=_BATCHES,
            registry=registry,
        )
        self._seconds = Histogram(
            "agent_runtime_commit_seconds", "Time of one group commit.", buckets=_SECONDS, registry=registry
        )
        self._batch_bytes = Histogram(
            "agent_runtime_commit_batch_bytes",
            "Bytes of events in one group commit.",
            buckets=_BYTES,
            registry=registry,
        )
        self._wait = Histogram(
            "agent_runtime_commit_wait_seconds",
            "Time that the oldest append of a group commit had waited for it.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._latency = Histogram(
            "agent_runtime_commit_latency_seconds",
            "From the coming of the oldest append of a group commit until it was committed.",
            buckets=_LATENCIES,
            registry=registry,
        )
        self._queue = Gauge(
            "agent_runtime_commit_queue_appends", "Appends that wait for the next commit.", registry=registry
        )
        self._queue_bytes = Gauge(
            "agent_runtime_commit_queue_bytes", "Bytes of events that wait for it.", registry=registry
        )

    def count(self, batch: Batch) -> None:
        """Count one."""
        self._batch.observe(batch.appends)
        self._batch_bytes.observe(batch.size)
        self._seconds.observe(batch.seconds)
        self._wait.observe(batch.waited)
        self._latency.observe(batch.waited + batch.seconds)
        self._queue.set(batch.left)
        self._queue_bytes.set(batch.left_size)


class Metrics:
    """Implements core.observe.Observer."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._commits = _Commits(self.registry)
        self._acquire = Histogram(
            "agent_runtime_database_acquire_seconds",
            "Time until a connection was to be had.",
            ["pool"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._reads = Counter(
            "agent_runtime_database_reads",
            "Reads that a database replica may answer, by who did.",
            ["server"],
            registry=self.registry,
        )
        self._refused = Counter(
            "agent_runtime_quota_refusals",
            "Requests and messages refused because a quota is used up, by quota.",
            ["quota"],
            registry=self.registry,
        )
        self._lag = Histogram(
            "agent_runtime_event_loop_lag_seconds",
            "By how much timers of the event loop came late.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._watched: dict[str, Gauge] = {}

    def batch_committed(self, batch: Batch) -> None:
        """Count one group commit."""
        self._commits.count(batch)

    def connection_acquired(self, pool: str, seconds: float) -> None:
        """Count the wait for a connection."""
        self._acquire.labels(pool).observe(seconds)

    def read_served(self, server: str) -> None:
        """Count a read by who answered it."""
        self._reads.labels(server).inc()

    def quota_refused(self, quota: str) -> None:
        """Count a refusal."""
        self._refused.labels(quota).inc()

    def loop_late(self, seconds: float) -> None:
        """Count a look at the event loop."""
        self._lag.observe(seconds)

    def watch(self, name: str, text: str, value: Callable[[], float], **labels: str) -> None:
        """Show what a function returns whenever metrics are read."""
        gauge = self._watched.get(name)
        if gauge is None:
            gauge = self._watched[name] = Gauge(f"agent_runtime_{name}", text, [*labels], registry=self.registry)
        (gauge.labels(**labels) if labels else gauge).set_function(value)


@contextmanager
def served(registry: CollectorRegistry, host: str, port: int) -> Iterator[int]:
    """Serve /metrics while the block runs; returns the port, of which 0 takes a free one."""
    try:
        server, thread = start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        raise OSError(f"cannot serve metrics on {host}:{port}: choose another --metrics-port") from error
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
