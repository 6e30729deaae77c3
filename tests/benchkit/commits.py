"""How long commits take, as a server's own metrics tell it."""

import asyncio
import re
from dataclasses import dataclass, field
from itertools import pairwise

_BUCKET = re.compile(r'^agent_runtime_commit_latency_seconds_bucket\{le="([^"]+)"\} (\S+)$', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Latencies:
    """How many commits took at most so many seconds."""

    counts: dict[float, float] = field(default_factory=dict)

    def since(self, before: "Latencies") -> "Latencies":
        """Return those that came since."""
        return Latencies({bound: count - before.counts.get(bound, 0) for bound, count in self.counts.items()})

    def percentile(self, share: int) -> float:
        """Return a percentile in milliseconds, as if commits were spread evenly within a bucket; 0 without any."""
        wanted = max(self.counts.values(), default=0) * share / 100
        for (low, below), (high, count) in pairwise([(0.0, 0.0), *sorted(self.counts.items())]):
            if wanted and count >= wanted:
                within = (wanted - below) / (count - below)
                return 1000 * (low + (high - low) * within if high < float("inf") else low)
        return 0.0


async def commit_latencies(port: int) -> Latencies:
    """Ask a server on this machine; one without metrics has none."""
    if not port:
        return Latencies()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
        told = (await reader.read()).decode()
    finally:
        writer.close()
    return Latencies({float(bound): float(count) for bound, count in _BUCKET.findall(told)})
