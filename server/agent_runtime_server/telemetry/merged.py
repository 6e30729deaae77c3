"""The metrics of several processes as if they were one's.

Gauges are the sum over those that answer now. Counters and histograms go on after a process has died with what was last
read from it, so that no total that somebody has seen ever falls.
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from threading import Lock

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

_PATIENCE_SECONDS = 2
_CUMULATIVE = ("counter", "histogram", "summary")

Labels = tuple[tuple[str, str], ...]
Values = dict[tuple[str, Labels], float]


@dataclass(slots=True)
class Family:
    """One metric, with the value of each of its samples."""

    text: str
    kind: str
    values: Values = field(default_factory=dict)

    def add(self, other: "Family") -> None:
        """Count the other's samples in."""
        for (name, labels), value in other.values.items():
            known = self.values.get((name, labels))
            self.values[name, labels] = value if known is None else _together(name, known, value)


Page = dict[str, Family]


class Merged(Collector):
    """Reads every process when it is asked; `ports` tells on which port of this machine each one now serves."""

    def __init__(self, ports: Callable[[], Mapping[int, int]]) -> None:
        self._ports = ports
        self._last: dict[int, Page] = {}  # what was last read from each process that lives
        self._gone: Page = {}  # totals of those that do not
        self._lock = Lock()

    def collect(self) -> Iterator[Metric]:
        """Yield the sums."""
        with self._lock:
            page = self._merge(dict(self._ports()))
        for name, family in page.items():
            metric = Metric(name, family.text, family.kind)
            for (sample, labels), value in family.values.items():
                metric.add_sample(sample, dict(labels), value)
            yield metric

    def _merge(self, ports: Mapping[int, int]) -> Page:
        with ThreadPoolExecutor(max_workers=max(1, len(ports))) as threads:
            read = dict(zip(ports, threads.map(_read, ports.values()), strict=True))
        for process in self._last.keys() - ports.keys():
            _add(self._gone, _totals(self._last.pop(process)))
        merged: Page = {}
        _add(merged, self._gone)
        for process, page in read.items():
            if page is not None:
                self._last[process] = page
            _add(merged, page if page is not None else _totals(self._last.get(process, {})))
        return merged


def parsed(text: str) -> Page:
    """Return what a process says of itself."""
    page: Page = {}
    for metric in text_string_to_metric_families(text):
        values = {(one.name, tuple(sorted(one.labels.items()))): one.value for one in metric.samples}
        page[metric.name] = Family(metric.documentation, metric.type, values)
    return page


def _read(port: int) -> Page | None:
    """Return the metrics served on a port, None when nobody answers."""
    connection = HTTPConnection("127.0.0.1", port, timeout=_PATIENCE_SECONDS)
    try:
        connection.request("GET", "/metrics", headers={"Accept": "text/plain"})
        return parsed(connection.getresponse().read().decode())
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()


def _totals(page: Page) -> Page:
    return {name: family for name, family in page.items() if family.kind in _CUMULATIVE}


def _add(page: Page, other: Page) -> None:
    for name, family in other.items():
        page.setdefault(name, Family(family.text, family.kind)).add(family)


def _together(name: str, one: float, other: float) -> float:
    """Return what two values make: moments and facts do not add up."""
    if name.endswith(("_created", "_fit")) or name == "process_start_time_seconds":
        return min(one, other)
    return max(one, other) if name.endswith(("_info", "_lag_seconds", "_lag_bytes")) else one + other
