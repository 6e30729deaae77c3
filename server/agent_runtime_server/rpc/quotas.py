"""Keeps callers within their quotas: one place decides, for requests, streams and the messages that begin turns."""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final

import structlog

from agent_runtime import v1
from agent_runtime_server.core.buckets import Buckets, Draw, Drawn
from agent_runtime_server.core.errors import CallerError, StoreUnavailable
from agent_runtime_server.core.observe import Nobody, Observer
from agent_runtime_server.core.principal import Principal
from agent_runtime_server.core.quotas import Kind, Quota
from agent_runtime_server.rpc.access import PACKAGE
from agent_runtime_server.stores.shared import BucketStore

_log = structlog.get_logger(__name__)

_PATIENCE_SECONDS: Final = 0.5  # with Redis, before this replica goes by what it knows itself
_ALONE_SECONDS: Final = 2.0  # until Redis is asked again
_STREAMS: Final = frozenset({"ChatService.Chat", "HitlService.Hitl", "EventService.SubscribeEvents"})
_READS: Final = ("Get", "List")


@dataclass(slots=True)
class Quotas:
    """The quotas of this service; without any nothing is asked of anybody.

    While Redis is away each replica grants its share alone: the whole, divided by the replicas that live.
    """

    quotas: Sequence[Quota] = ()
    shared: BucketStore | None = None
    replicas: Callable[[], int] = lambda: 1
    observer: Observer = field(default_factory=Nobody)
    clock: Callable[[], float] = time.monotonic
    _own: Buckets = field(default_factory=Buckets)
    _alone_until: float = 0.0

    async def request(self, who: Principal, method: str) -> None:
        """Count an RPC by its full name; raises QUOTA_EXCEEDED."""
        if self.quotas:
            kind = kind_of(method.removeprefix(PACKAGE))
            await self._take(who, [(quota, 1, 1) for quota in self._of(kind, Kind.REQUEST)])

    async def turn(self, who: Principal) -> None:
        """Count a message that asks for a turn; raises QUOTA_EXCEEDED, also while tokens are owed."""
        turns = [(quota, 1, 1) for quota in self._of(Kind.TURN)]
        await self._take(who, [*turns, *((quota, 0, 1) for quota in self._of(Kind.TOKEN))])

    async def spent(self, tenant: str, subject: str, usage: v1.Usage) -> None:
        """Take what an answer of a model has cost, into debt if need be."""
        tokens = usage.input_tokens + usage.output_tokens
        await self._take(Principal(tenant, subject), [(quota, tokens, None) for quota in self._of(Kind.TOKEN)])

    def _of(self, *kinds: Kind) -> Iterable[Quota]:
        return (quota for quota in self.quotas if quota.kind in kinds)

    async def _take(self, who: Principal, wanted: Sequence[tuple[Quota, int, int | None]]) -> None:
        if not wanted:
            return
        draws = [Draw(quota.bucket(who.tenant, who.subject), quota.rate, cost, least) for quota, cost, least in wanted]
        taken = await self._draw(draws)
        if taken.refused is not None:
            quota = wanted[taken.refused][0]
            self.observer.quota_refused(quota.name)
            raise exceeded(quota, who, taken.wait_ms)

    async def _draw(self, draws: Sequence[Draw]) -> Drawn:
        if self.shared is not None and self.clock() >= self._alone_until:
            try:
                async with asyncio.timeout(_PATIENCE_SECONDS):
                    return await self.shared.take(draws)
            except (StoreUnavailable, TimeoutError) as error:
                self._alone_until = self.clock() + _ALONE_SECONDS
                _log.warning("quotas are kept by this replica alone", error=str(error) or "Redis is slow")
        if self.shared is not None:
            live = self.replicas()
            draws = [replace(draw, rate=draw.rate.share(live)) for draw in draws]
        return self._own.take(draws, int(self.clock() * 1000))


def kind_of(method: str) -> Kind:
    """Return the class of a method, such as `SessionService.GetSession`."""
    if method in _STREAMS:
        return Kind.STREAM
    return Kind.READ if method.partition(".")[2].startswith(_READS) else Kind.WRITE


def exceeded(quota: Quota, who: Principal, wait_ms: int) -> CallerError:
    """Return the error of who has to wait."""
    whose = quota.whose(who.tenant, who.subject)
    return CallerError(
        v1.ERROR_REASON_QUOTA_EXCEEDED,
        f"the limit of {quota} for {whose} is reached; try again in {wait_ms / 1000:.1f} s",
        metadata={"quota": quota.name, "subject": whose, "limit": str(quota)},
        retry_delay=timedelta(milliseconds=wait_ms),
    )
