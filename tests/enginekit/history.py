"""Long histories, made without playing them."""

from collections.abc import Iterator

from agent_runtime import v1
from agent_runtime_server.core.clock import from_nanos
from agent_runtime_server.engine.appends import stored
from agent_runtime_server.stores.base import StoredEvent
from enginekit.stores import TENANT, Stores, appending

EVENTS_A_TURN = 5
_TURNS_AN_APPEND = 200


def turn(session_id: str, first_seq: int, text: str) -> list[StoredEvent]:
    """Return the events of a turn in which the user says something and the agent answers alike."""
    turn_id = f"turn-{first_seq}"
    said = v1.UserMessage(parts=[v1.Part(text=text)])
    answered = v1.AssistantMessage(
        message_id=f"msg-{first_seq}", step_id=f"step-{first_seq}", parts=[v1.Part(text=text)]
    )
    events = [
        v1.SessionEvent(user_message=said, frame_id=f"frame-{first_seq}"),
        v1.SessionEvent(turn_started=v1.TurnStarted(agent_id="coder")),
        v1.SessionEvent(routing_decided=v1.RoutingDecided(agent_id="coder")),
        v1.SessionEvent(assistant_message=answered),
        v1.SessionEvent(turn_finished=v1.TurnFinished(state=v1.TURN_STATE_COMPLETED)),
    ]
    for seq, event in enumerate(events, start=first_seq):
        event.seq, event.session_id, event.turn_id = seq, session_id, turn_id
        event.create_time.CopyFrom(from_nanos(seq * 1_000_000))
    return [stored(event) for event in events]


def turns(session_id: str, head: int, count: int, text: str) -> Iterator[StoredEvent]:
    """Return the events of many turns behind `head`."""
    for number in range(count):
        yield from turn(session_id, head + 1 + number * EVENTS_A_TURN, text)


async def lengthen(stores: Stores, session_id: str, count: int, text: str = "again", tenant: str = TENANT) -> None:
    """Append many turns to a session that is at rest."""
    row = await stores.log.row(tenant, session_id)
    assert row is not None
    head = row.session.head_seq
    while count:
        now = min(count, _TURNS_AN_APPEND)
        events = [*turns(session_id, head, now, text)]
        await stores.log.append(appending(session_id, head, events=events, state=v1.SESSION_STATE_IDLE))
        head += len(events)
        count -= now
