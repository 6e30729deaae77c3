"""Sessions begin and end."""

from collections.abc import Mapping
from dataclasses import dataclass

from agent_runtime import v1
from agent_runtime_server.core.errors import CallerError
from agent_runtime_server.engine import settle
from agent_runtime_server.engine.draft import Draft
from agent_runtime_server.engine.session import Services, Session, summary
from agent_runtime_server.engine.turn import State, apply
from agent_runtime_server.stores.base import NewSession, StoredEvent


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


async def create(services: Services, wish: Wish) -> tuple[v1.Session, bool]:
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
    stored = StoredEvent(1, v1.SessionEvent.SESSION_CREATED_FIELD_NUMBER, event.SerializeToString())
    existing = await services.log.create(NewSession(session, wish.tenant, wish.request_id, stored))
    if existing is None:
        row = await services.log.row(session_id)
        assert row is not None, "it was made just now"
        services.committed([stored])
        return row.session, True
    same_agent = not wish.agent_id or await _first_agent(services, existing.session) == wish.agent_id
    if existing.tenant != wish.tenant or existing.session.owner != wish.owner or not same_agent:
        raise CallerError(v1.ERROR_REASON_IDEMPOTENCY_KEY_REUSED, "the id is taken by another session; choose another")
    return existing.session, False


async def _first_agent(services: Services, session: v1.Session) -> str:
    """Return the agent the session was made with; the current one when that is compacted."""
    first = await services.log.events(session.session_id, 0, 1)
    created = v1.SessionEvent.FromString(first[0].payload) if first else v1.SessionEvent()
    return created.session_created.agent_id or session.agent_id


async def close(session: Session, reason: str, actor: v1.Actor) -> None:
    """End a session, its turn and its queue; ending it again changes nothing."""

    def decide(draft: Draft) -> None:
        if not draft.state.closed:
            settle.close(draft, reason, actor)

    await session.commit(decide)
