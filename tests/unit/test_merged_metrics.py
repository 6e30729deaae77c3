"""Several processes' metrics as one's: sums, and totals that never fall."""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from agent_runtime_server.telemetry.merged import Merged
from agent_runtime_server.telemetry.metrics import served


class Process:
    """A worker as far as its metrics go."""

    def __init__(self, streams: int, calls: int) -> None:
        self.registry = CollectorRegistry()
        Gauge("streams", "Open ones.", registry=self.registry).set_function(lambda: streams)
        Counter("calls", "Made.", ["tool"], registry=self.registry).labels("read").inc(calls)
        Histogram("seconds", "Taken.", buckets=(1, 2), registry=self.registry).observe(1.5)

    @contextmanager
    def serving(self) -> Iterator[int]:
        with served(self.registry, "127.0.0.1", 0) as port:
            yield port


def read(merged: Merged) -> dict[str, float]:
    """Return the samples as a scraper sees them."""
    registry = CollectorRegistry()
    registry.register(merged)
    lines = generate_latest(registry).decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


def test_samples_are_added_up() -> None:
    with Process(2, 10).serving() as one, Process(3, 5).serving() as other:
        told = read(Merged(lambda: {1: one, 2: other}))
    assert told["streams"] == 5
    assert told['calls_total{tool="read"}'] == 15
    assert (told['seconds_bucket{le="2.0"}'], told["seconds_sum"], told["seconds_count"]) == (2, 3, 2)


def test_moments_are_not_added_up() -> None:
    with Process(2, 10).serving() as one, Process(3, 5).serving() as other:
        alone = read(Merged(lambda: {1: one}))
        told = read(Merged(lambda: {1: one, 2: other}))
    assert told["seconds_created"] == alone["seconds_created"]


def test_of_a_dead_process_only_its_totals_stay() -> None:
    ports: dict[int, int] = {}
    merged = Merged(lambda: ports)
    with Process(2, 10).serving() as one:
        with Process(3, 5).serving() as other:
            ports |= {1: one, 2: other}
            read(merged)
        unheard = read(merged)
        assert (unheard["streams"], unheard['calls_total{tool="read"}']) == (2, 15), "it does not answer"
        del ports[2]
        with Process(1, 1).serving() as successor:
            ports[3] = successor
            told = read(merged)
    assert (told["streams"], told['calls_total{tool="read"}'], told["seconds_count"]) == (3, 16, 3)


def test_nobody_is_nothing() -> None:
    assert read(Merged(dict)) == {}
