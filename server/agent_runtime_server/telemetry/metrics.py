"""Prometheus metrics of this process, on a port of their own."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import (
    CollectorRegistry,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    start_http_server,
)

_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5)


class Metrics:
    """Implements core.observe.Observer."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._batch = Histogram(
            "agent_runtime_commit_batch_appends",
            "Appends in one group commit.",
            buckets=_BATCHES,
            registry=self.registry,
        )
        self._seconds = Histogram(
            "agent_runtime_commit_seconds", "Time of one group commit.", buckets=_SECONDS, registry=self.registry
        )
        self._queue = Gauge(
            "agent_runtime_commit_queue_appends", "Appends that wait for the next commit.", registry=self.registry
        )

    def batch_committed(self, appends: int, seconds: float, left: int) -> None:
        """Count one group commit."""
        self._batch.observe(appends)
        self._seconds.observe(seconds)
        self._queue.set(left)

    def watch(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Show what a function returns whenever metrics are read."""
        Gauge(f"agent_runtime_{name}", text, registry=self.registry).set_function(value)


@contextmanager
def served(metrics: Metrics, host: str, port: int) -> Iterator[int]:
    """Serve /metrics while the block runs; returns the port, of which 0 takes a free one."""
    server, thread = start_http_server(port, addr=host, registry=metrics.registry)
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
