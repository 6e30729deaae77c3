"""EventService: read-only feeds."""

import asyncio
import random
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from agent_runtime import v1
from agent_runtime_server.core.errors import CallerError, ServiceError, StoreUnavailable
from agent_runtime_server.engine.feed import Wanted, heartbeat
from agent_runtime_server.engine.position import check_position
from agent_runtime_server.rpc import wire
from agent_runtime_server.rpc.pages import make_token, read_token
from agent_runtime_server.rpc.principal import principal
from agent_runtime_server.rpc.replica import Replica, draining
from agent_runtime_server.rpc.service import Call, Responses
from agent_runtime_server.rpc.streams import OpenStream
from agent_runtime_server.stores.base import CompactedError, EventLog, FeedPlace, StoredEvent

_BOUND_TO = "events"
_PAGE = 500
_POLL_SECONDS = 1.0
_KINDS = {name.name: name.number for name in v1.SessionEvent.DESCRIPTOR.oneofs_by_name["payload"].fields}


@dataclass(slots=True)
class _Notices:
    """What a feed over all sessions is to be told."""

    farewells: list[v1.GoAway] = field(default_factory=list)
    errors: list[ServiceError] = field(default_factory=list)


class EventService:
    """Follows one session, or all."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica

    async def subscribe_events(self, request: v1.SubscribeEventsRequest, call: Call) -> Responses:
        """Yield events, ephemeral frames where asked for, and heartbeats."""
        self._replica.refuse_draining()
        kinds = _wanted_kinds(request)
        tenant = principal(call).tenant
        feed = self._one if request.session_id else self._all
        frames = feed(request, tenant, kinds, call.stream)
        with self._replica.stream():
            async for frame in frames:
                yield frame

    async def _one(
        self, request: v1.SubscribeEventsRequest, tenant: str, kinds: Collection[int], stream: OpenStream
    ) -> Responses:
        session = await self._replica.hub.session(request.session_id, tenant, latest=True)
        state = await session.load()
        check_position(session.oldest_seq, state.head_seq, request.after_seq)
        feed = session.audience.follow(Wanted(request.after_seq, request.include_deltas, kinds=kinds, progress=False))
        stream.on_end(feed.answer, feed.end)
        if self._replica.draining:  # since the call was let in
            feed.answer(self._replica.farewell())
        try:
            async for burst in feed.bursts():
                yield [frame for item in burst if (frame := wire.feed_frame(item)) is not None]
        finally:
            session.audience.leave(feed)

    async def _all(
        self, request: v1.SubscribeEventsRequest, tenant: str, kinds: Collection[int], stream: OpenStream
    ) -> Responses:
        log = self._replica.services.log
        place = _place(request.resume_token) if request.resume_token else await log.feed_end()
        last_sent, told, warned = time.monotonic(), False, False
        notices = _Notices()
        stream.on_end(notices.farewells.append, notices.errors.append, ages=True)
        while not self._replica.ending.is_set():
            if notices.errors:
                raise notices.errors[0]
            page: Sequence[tuple[StoredEvent, FeedPlace]] = ()
            with suppress(StoreUnavailable):  # which it may be for a while; the stream stays
                page, place = await _page(log, tenant, place)
            for event, event_place in page:
                if event.kind in kinds:
                    last_sent = time.monotonic()
                    yield wire.feed_event(event, _token(event_place))
            if len(page) == _PAGE:
                continue
            while notices.farewells:
                yield v1.SubscribeEventsResponse(resume_token=_token(place), go_away=notices.farewells.pop())
            if self._replica.draining and not warned:
                warned = True
                yield v1.SubscribeEventsResponse(resume_token=_token(place), go_away=self._replica.farewell())
            if not told:
                told = True
                yield v1.SubscribeEventsResponse(resume_token=_token(place), caught_up=v1.CaughtUp())
            if time.monotonic() - last_sent > self._replica.heartbeat_seconds:
                last_sent = time.monotonic()
                yield v1.SubscribeEventsResponse(resume_token=_token(place), heartbeat=heartbeat(0))
            pause = min(_POLL_SECONDS, self._replica.heartbeat_seconds / 3)
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - so that feeds do not all look at once
        raise draining()


async def _page(
    log: EventLog, tenant: str, place: FeedPlace
) -> tuple[Sequence[tuple[StoredEvent, FeedPlace]], FeedPlace]:
    try:
        return await log.feed(tenant, place, _PAGE)
    except CompactedError as error:
        message = "events behind this place are compacted; go on with the resumeToken given here, or with none"
        metadata = {"resumeToken": _token(error.oldest)}
        raise CallerError(v1.ERROR_REASON_SEQ_COMPACTED, message, metadata=metadata) from error


def _wanted_kinds(request: v1.SubscribeEventsRequest) -> Collection[int]:
    return {_KINDS[name] for name in request.event_types} or set(_KINDS.values())


def _token(place: FeedPlace) -> str:
    return make_token(_BOUND_TO, (place.xid, place.session_id, place.seq))


def _place(token: str) -> FeedPlace:
    xid, session_id, seq = read_token(token, _BOUND_TO, (int, str, int))
    return FeedPlace(int(xid), str(session_id), int(seq))
