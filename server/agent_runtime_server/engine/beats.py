"""Signs of life: heartbeats to clients that hear nothing else, and an end to streams that are silent or old."""

import math
import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from agent_runtime import v1
from agent_runtime_server.core.errors import CallerError
from agent_runtime_server.engine.feed import Feed
from agent_runtime_server.engine.watch import Watch

_PAUSE_SECONDS: Final = 0.125  # short, so that few streams are written to at a time
_LEAVE_SECONDS: Final = 25  # to leave in, for a stream that has grown old


@dataclass(frozen=True, slots=True)
class Beats:
    """What the streams of this replica are looked after for, in seconds."""

    heartbeat_seconds: float
    client_idle_seconds: float
    stream_seconds: float
    watch: Watch = field(default_factory=Watch)

    @property
    def pause(self) -> float:
        """Seconds from one beat to the next."""
        return min(_PAUSE_SECONDS, self.heartbeat_seconds / 3)

    async def beat(self) -> None:
        """Send heartbeats where nothing else was sent, and end streams whose client has gone silent."""
        now = time.monotonic()
        for feed in self.watch.take(now):
            self._look_after(feed, now)

    def _look_after(self, feed: Feed, now: float) -> None:
        feed.beat(self.heartbeat_seconds)
        self._age(feed, now)
        silent_at = feed.last_received + self.client_idle_seconds if feed.reads else math.inf
        if silent_at < now:
            feed.end(CallerError(v1.ERROR_REASON_CLIENT_IDLE_TIMEOUT, "no frame came for too long; attach again"))
        leaves_at = feed.opened + self.stream_seconds * feed.share_of_age - _LEAVE_SECONDS
        self.watch.look_after(feed, min(feed.last_sent + self.heartbeat_seconds, silent_at, max(leaves_at, now)))

    def _age(self, feed: Feed, now: float) -> None:
        """Tell an old stream to come back, and end it when it has not."""
        left = feed.opened + self.stream_seconds * feed.share_of_age - now
        if left < 0:
            feed.end(CallerError(v1.ERROR_REASON_SERVER_DRAINING, "the stream reached its greatest age; attach again"))
        elif left < _LEAVE_SECONDS and not feed.told_to_leave:
            feed.told_to_leave = True
            go_away = v1.GoAway(reason=v1.GoAway.REASON_MAX_AGE)
            go_away.time_left.FromTimedelta(timedelta(seconds=left))
            feed.answer(go_away)
