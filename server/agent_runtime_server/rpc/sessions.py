"""SessionService: life cycle and history."""

from datetime import UTC

from agent_runtime import v1
from agent_runtime_server.core.errors import CallerError, invalid
from agent_runtime_server.engine import lifecycle
from agent_runtime_server.engine.position import check_position, compacted
from agent_runtime_server.rpc import wire
from agent_runtime_server.rpc.pages import fingerprint, fitting, make_token, page_size, read_place
from agent_runtime_server.rpc.principal import Principal, principal
from agent_runtime_server.rpc.replica import Replica
from agent_runtime_server.rpc.service import Call
from agent_runtime_server.stores.base import History, SessionQuery, SessionRow


class SessionService:
    """Session life cycle and history."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._log = replica.services.log

    async def create_session(self, request: v1.CreateSessionRequest, call: Call) -> v1.CreateSessionResponse:
        """Make a session, or return the one that an earlier try made."""
        self._replica.refuse_draining()
        who = principal(call)
        wish = lifecycle.Wish(
            owner=who.actor(v1.ACTOR_KIND_USER),
            tenant=who.tenant,
            request_id=request.request_id,
            session_id=request.session_id,
            agent_id=request.agent_id,
            title=request.title,
            labels=request.labels,
        )
        session, created = await lifecycle.create(self._replica.services, wish, self._replica.hub.begin)
        await self._replica.wrote(call)
        return v1.CreateSessionResponse(session=session, created=created)

    async def get_session(self, request: v1.GetSessionRequest, call: Call) -> v1.GetSessionResponse:
        """Return one session."""
        return v1.GetSessionResponse(session=(await self._row(request.session_id, principal(call))).session)

    async def _row(self, session_id: str, who: Principal) -> SessionRow:
        return _found(await self._log.row(who.tenant, session_id), session_id)

    async def list_sessions(self, request: v1.ListSessionsRequest, call: Call) -> v1.ListSessionsResponse:
        """Return a page of the caller's sessions, newest first."""
        limit = page_size(request.page_size, 50, 500)
        bound_to = fingerprint(request, "page_token", "page_size")
        query = SessionQuery(
            tenant=principal(call).tenant,
            limit=limit + 1,
            before=read_place(request.page_token, bound_to),
            states=request.states,
            labels=request.labels,
        )
        rows = await self._replica.read(call, lambda history: history.log.list_sessions(query))
        sessions = fitting([row.session for row in rows[:limit]])
        response = v1.ListSessionsResponse(sessions=sessions)
        if len(rows) > len(sessions):
            last = sessions[-1]
            moment = last.create_time.ToDatetime(UTC).isoformat()
            response.next_page_token = make_token(bound_to, (moment, last.session_id))
        return response

    async def update_session(self, request: v1.UpdateSessionRequest, call: Call) -> v1.UpdateSessionResponse:
        """Change title, labels or expiry."""
        paths = request.update_mask.paths
        who = principal(call)
        await self._row(request.session.session_id, who)
        given = request.session
        expires = given.expire_time.ToDatetime(UTC) if given.HasField("expire_time") else None
        row = await self._log.update(
            who.tenant,
            given.session_id,
            given.etag,
            given.title if "title" in paths else None,
            given.labels if "labels" in paths else None,
            expires,
            set_expire="expire_time" in paths,
        )
        if row is None:
            raise invalid("session.etag", "etag.current", "the session has changed; read it again and use its etag")
        await self._replica.wrote(call)
        return v1.UpdateSessionResponse(session=row.session)

    async def close_session(self, request: v1.CloseSessionRequest, call: Call) -> v1.CloseSessionResponse:
        """End a session and cancel its turn."""
        who = principal(call)
        session = await self._replica.hub.session(request.session_id, who.tenant)
        await lifecycle.close(session, request.reason, who.actor(v1.ACTOR_KIND_USER))
        await self._replica.wrote(call)
        return v1.CloseSessionResponse(session=(await self._row(request.session_id, who)).session)

    async def fork_session(self, request: v1.ForkSessionRequest, call: Call) -> v1.ForkSessionResponse:
        """Begin a session as a copy of another one's log up to a seq."""
        self._replica.refuse_draining()
        who = principal(call)
        source = (await self._row(request.session_id, who)).session
        at_seq = request.at_seq or source.head_seq
        check_position(source.oldest_seq, source.head_seq, at_seq)
        wish = lifecycle.Wish(
            owner=who.actor(v1.ACTOR_KIND_USER),
            tenant=who.tenant,
            request_id=request.request_id,
            session_id=request.new_session_id,
            agent_id="",
            title=request.title,
            labels={},
        )
        session, created = await lifecycle.fork(self._replica.services, source, wish, at_seq)
        await self._replica.wrote(call)
        return v1.ForkSessionResponse(session=session, created=created)

    async def list_session_events(self, request: v1.ListSessionEventsRequest, call: Call) -> bytes:
        """Return a page of the event log."""
        tenant, session_id, after_seq = principal(call).tenant, request.session_id, request.after_seq
        limit = page_size(request.page_size, 100, 1000)

        async def page(history: History) -> bytes:
            session = _found(await history.log.row(tenant, session_id), session_id).session
            check_position(session.oldest_seq, session.head_seq, after_seq)
            events = await history.log.events(tenant, session_id, after_seq, limit)
            if events and events[0].seq != after_seq + 1:  # compaction has overtaken this read
                raise compacted(events[0].seq, session.head_seq)
            return wire.event_page(events, after_seq, session.head_seq)

        return await self._replica.read(call, page)


def _found(row: SessionRow | None, session_id: str) -> SessionRow:
    if row is None:
        raise CallerError(v1.ERROR_REASON_SESSION_NOT_FOUND, f"there is no session {session_id}")
    return row
