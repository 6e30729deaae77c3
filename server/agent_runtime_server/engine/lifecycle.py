"""Sessions begin and end."""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass

from agent_runtime import v1
from agent_runtime_server.core.clock import to_nanos
from agent_runtime_server.core.errors import CallerError
from agent_runtime_server.engine import settle
from agent_runtime_server.engine.appends import stored
from agent_runtime_server.engine.draft import Draft
from agent_runtime_server.engine.loading import begin
from agent_runtime_server.engine.position import compacted
from agent_runtime_server.engine.services import Services
from agent_runtime_server.engine.session import Session
from agent_runtime_server.engine.snapshot import pack
from agent_runtime_server.engine.state import State
from agent_runtime_server.engine.summary import summary
from agent_runtime_server.engine.turn import FOLD_VERSION, apply
from agent_runtime_server.stores.base import NewSession, SessionRow, Snapshot, StoredEvent

_PAGE = 500


@dataclass(frozen=True, slots=True)
class Wish:
    """What a caller wants of a new session; empty ids are made up."""

    owner: v1.Actor
    tenant: str
    request_id: str
    session_id: str
    agent_id: str
    title: str
    labels: Mapping[str, str]


Begun = Callable[[str, State, StoredEvent], None]
"""Takes the tenant, the state and the only event of a session that was made just now."""


async def create(services: Services, wish: Wish, begun: Begun | None = None) -> tuple[v1.Session, bool]:
    """Return the session and whether it was made now; idempotent on the request id and on the session id."""
    agent = services.agents.get(wish.agent_id or settle.ROUTER)
    session_id = wish.session_id or services.new_id("session")
    event = v1.SessionEvent(
        seq=1,
        session_id=session_id,
        create_time=services.clock(),
        actor=wish.owner,
        session_created=v1.SessionCreated(agent_id=agent.agent_id, agent_revision=agent.revision),
    )
    state = State(session_id)
    apply(state, event)
    session = summary(state)
    session.title = wish.title
    session.labels.update(wish.labels)
    session.owner.CopyFrom(wish.owner)
    session.create_time.CopyFrom(event.create_time)
    first = stored(event)
    row, made = await _insert(services, NewSession(session, wish.tenant, wish.request_id, [first]))
    if made:
        if begun is not None:
            begun(wish.tenant, state, first)
        return row.session, True
    if row.tenant != wish.tenant:
        raise _taken()
    same_id = wish.session_id in ("", row.session.session_id)
    same_agent = not wish.agent_id or await _first_agent(services, wish.tenant, row.session) == wish.agent_id
    if row.session.owner != wish.owner or not (same_id and same_agent):
        raise _taken()
    return row.session, False


async def _insert(services: Services, new: NewSession) -> tuple[SessionRow, bool]:
    row, made = await services.log.create(new)
    if made:
        services.committed(new.events)
    return row, made


async def fork(services: Services, source: v1.Session, wish: Wish, at_seq: int) -> tuple[v1.Session, bool]:
    """Return a copy of a session's log up to a seq, and whether it was made now; what ran there is cancelled."""
    session_id = wish.session_id or services.new_id("session")
    base = await services.log.base(wish.tenant, source.session_id, FOLD_VERSION)
    state = begin(source.session_id, base)
    state.session_id = session_id
    if base is not None:
        if base.seq > at_seq:  # it was compacted meanwhile
            raise compacted(base.seq + 1, source.head_seq)
        base = Snapshot(base.seq, FOLD_VERSION, pack(state))
    events = [event async for event in _copied(services, wish.tenant, source.session_id, at_seq, state)]
    draft = Draft(state, to_nanos(services.clock()), services.new_id, services.agents, services.limits)
    settle.fork(draft, v1.SessionForked(from_session_id=source.session_id, from_seq=at_seq), wish.owner)
    session = summary(state)
    session.title = wish.title or source.title
    session.labels.update(source.labels)
    session.owner.CopyFrom(wish.owner)
    session.create_time.CopyFrom(services.clock())
    events += [stored(event) for event in draft.events]
    new = NewSession(session, wish.tenant, wish.request_id, events, base)
    row, made = await _insert(services, new)
    if not made and (row.tenant != wish.tenant or row.session.owner != wish.owner):
        raise _taken()
    return row.session, made


async def _copied(
    services: Services, tenant: str, source_id: str, at_seq: int, state: State
) -> AsyncIterator[StoredEvent]:
    """Yield the source's events under the new session's id, and fold them."""
    while page := await services.log.events(tenant, source_id, state.head_seq, _PAGE):
        if page[0].seq != state.head_seq + 1:
            raise compacted(page[0].seq, page[-1].seq)
        for one in page:
            if one.seq > at_seq:
                return
            event = v1.SessionEvent.FromString(one.payload)
            event.session_id = state.session_id
            if event.HasField("session_closed"):
                return
            apply(state, event)
            yield stored(event)


def _taken() -> CallerError:
    return CallerError(v1.ERROR_REASON_IDEMPOTENCY_KEY_REUSED, "the id is taken by another session; choose another")


async def _first_agent(services: Services, tenant: str, session: v1.Session) -> str:
    """Return the agent the session was made with; the current one when that is compacted."""
    first = await services.log.events(tenant, session.session_id, 0, 1)
    created = v1.SessionEvent.FromString(first[0].payload) if first else v1.SessionEvent()
    return created.session_created.agent_id or session.agent_id


async def close(session: Session, reason: str, actor: v1.Actor) -> None:
    """End a session, its turn and its queue; ending it again changes nothing."""

    def decide(draft: Draft) -> None:
        if not draft.state.closed:
            settle.close(draft, reason, actor)

    await session.commit(decide)
