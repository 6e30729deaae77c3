"""The streams that are open here: how many each caller holds, how old they are, whether credentials still are good."""

import asyncio
import math
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Protocol, TypeVar

import structlog

from agent_runtime import v1
from agent_runtime_server.auth.errors import credentials_invalid, expired
from agent_runtime_server.core.errors import CallerError, ServiceError
from agent_runtime_server.core.principal import LOCAL, Principal

_log = structlog.get_logger(__name__)

_WARNING_SECONDS: Final = 60.0  # before credentials expire
_LEAVE_SECONDS: Final = 25.0  # to leave in, for a stream that has grown old
_LOOK_SECONDS: Final = 1.0
_REVOKED_SECONDS: Final = 5.0
_RETRY_SECONDS: Final = 5

T = TypeVar("T")
Say = Callable[[v1.GoAway], None]
End = Callable[[ServiceError], None]


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """Most streams at a time; 0 is no limit."""

    total: int = 0
    per_caller: int = 0
    per_connection: int = 0


@dataclass(eq=False, slots=True)
class OpenStream:
    """One stream; whoever writes to it says how to tell its client something and how to end it."""

    caller: Principal = LOCAL
    connection: str = ""
    expires: float = math.inf
    """When its credentials do."""
    warned: bool = False
    aging: "set[OpenStream] | None" = None
    """Where it stands when its age is looked after here; feeds of a session are aged where the session is."""
    opened: float = field(default_factory=time.monotonic)
    share_of_age: float = field(default_factory=lambda: random.uniform(0.9, 1))  # noqa: S311 - no secret
    told_to_leave: bool = False
    _say: Say | None = None
    _end: End | None = None
    _error: ServiceError | None = None

    def on_end(self, say: Say, end: End, *, ages: bool = False) -> None:
        """Call these when the stream has to end soon, and when it has to end."""
        self._say, self._end = say, end
        if ages and self.aging is not None:
            self.aging.add(self)
        if self._error is not None:
            end(self._error)

    def warn(self, go_away: v1.GoAway) -> bool:
        """Tell the client to come back on another stream; False while nobody writes to it."""
        if self._say is None:
            return False
        self._say(go_away)
        return True

    def end(self, error: ServiceError) -> None:
        """End the stream, or as soon as somebody writes to it."""
        self._error = error
        if self._end is not None:
            self._end(error)


class Callers(Protocol):
    """Whoever knows how long credentials are good."""

    async def endings(self, callers: Iterable[Principal]) -> Mapping[str, float]:
        """Return when the API keys of those callers that have one end, by their ids: 0 for those good no more."""
        ...


@dataclass(slots=True)
class Streams:
    """All open streams of this replica; `run` must run while it is used."""

    limits: StreamLimits = field(default_factory=StreamLimits)
    callers: Callers | None = None
    clock: Callable[[], float] = time.time
    age_seconds: float = 3300
    _open: set[OpenStream] = field(default_factory=set)
    _expiring: set[OpenStream] = field(default_factory=set)
    _aging: set[OpenStream] = field(default_factory=set)
    _by_caller: Counter[tuple[str, str]] = field(default_factory=Counter)
    _by_connection: Counter[str] = field(default_factory=Counter)

    def __len__(self) -> int:
        return len(self._open)

    @contextmanager
    def opened(self, caller: Principal, connection: str) -> Iterator[OpenStream]:
        """Count a stream while the block runs; raises TOO_MANY_STREAMS."""
        holder = (caller.tenant, caller.subject)
        self._refuse(self.limits.total, len(self._open), "this replica holds")
        self._refuse(self.limits.per_caller, self._by_caller[holder], "these credentials hold")
        self._refuse(self.limits.per_connection, self._by_connection[connection], "this connection holds")
        stream = OpenStream(caller, connection, aging=self._aging)
        self._open.add(stream)
        if caller.expires is not None:
            self._expires(stream, caller.expires)
        self._by_caller[holder] += 1
        self._by_connection[connection] += 1
        try:
            yield stream
        finally:
            for streams in (self._open, self._expiring, self._aging):
                streams.discard(stream)
            _count_down(self._by_caller, holder)
            _count_down(self._by_connection, connection)

    def _refuse(self, most: int, held: int, who: str) -> None:
        if most and held >= most:
            raise CallerError(
                v1.ERROR_REASON_TOO_MANY_STREAMS,
                f"{who} {held} streams already, and {most} are the most; close some",
                metadata={"most": str(most)},
                retry_delay=timedelta(seconds=_RETRY_SECONDS),
            )

    async def run(self) -> None:
        """Warn and end streams as they grow old and their credentials end, until cancelled."""
        asked = time.monotonic()
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            self.expire()
            self.age(time.monotonic())
            if time.monotonic() - asked >= _REVOKED_SECONDS:
                asked = time.monotonic()
                await self.revoke()

    def expire(self) -> None:
        """Warn the streams whose credentials are about to expire, end those whose have."""
        now = self.clock()
        for stream in [*self._expiring]:
            left = stream.expires - now
            if left <= 0:
                stream.end(expired())
            elif left < _WARNING_SECONDS and not stream.warned:
                stream.warned = stream.warn(_go_away(v1.GoAway.REASON_CREDENTIALS_EXPIRING, left))

    def age(self, now: float) -> None:
        """Tell old streams to come back, and end those that have not."""
        for stream in [*self._aging]:
            left = stream.opened + self.age_seconds * stream.share_of_age - now
            if left <= 0:
                message = "the stream reached its greatest age; open another"
                stream.end(CallerError(v1.ERROR_REASON_SERVER_DRAINING, message))
            elif left < _LEAVE_SECONDS and not stream.told_to_leave:
                stream.told_to_leave = stream.warn(_go_away(v1.GoAway.REASON_MAX_AGE, left))

    async def revoke(self) -> None:
        """End the streams whose API key was revoked, and note which will end; while that cannot be asked they stay."""
        if self.callers is None:
            return
        try:
            endings = await self.callers.endings([stream.caller for stream in self._open])
        except ServiceError as error:
            _log.warning("revoked keys cannot be looked for", error=str(error))
            return
        for stream in [*self._open]:
            ending = endings.get(stream.caller.key_id, math.inf)
            if not ending:
                stream.end(credentials_invalid("the API key was revoked or has expired"))
            elif ending < stream.expires:
                self._expires(stream, ending)

    def _expires(self, stream: OpenStream, moment: float) -> None:
        stream.expires = moment
        self._expiring.add(stream)


def _count_down(counter: Counter[T], holder: T) -> None:
    counter[holder] -= 1
    if not counter[holder]:
        del counter[holder]


def _go_away(reason: "v1.GoAway.Reason.ValueType", seconds: float) -> v1.GoAway:
    go_away = v1.GoAway(reason=reason)
    go_away.time_left.FromTimedelta(timedelta(seconds=seconds))
    return go_away
