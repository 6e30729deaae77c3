"""Frames and pages put together from stored bytes, which are never parsed and serialised again."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from agent_runtime import v1
from agent_runtime_server.engine.feed import Item
from agent_runtime_server.stores.base import StoredEvent

_CHAT_EVENT: Final = v1.ChatResponse.EVENT_FIELD_NUMBER
_CHAT_DELTA: Final = v1.ChatResponse.MESSAGE_DELTA_FIELD_NUMBER
_CHAT_HEARTBEAT: Final = v1.ChatResponse.HEARTBEAT_FIELD_NUMBER
_FEED_EVENT: Final = v1.SubscribeEventsResponse.EVENT_FIELD_NUMBER
_PAGE_EVENT: Final = v1.ListSessionEventsResponse.EVENTS_FIELD_NUMBER


def chat_frame(item: Item) -> bytes | v1.ChatResponse:
    """Return what a feed has to say as a frame of Chat."""
    match item:
        case StoredEvent():
            return _field(_CHAT_EVENT, item.payload)
        case v1.MessageDelta():
            return _field(_CHAT_DELTA, item.SerializeToString())
        case v1.Heartbeat():
            return _field(_CHAT_HEARTBEAT, item.SerializeToString())
        case v1.ToolProgress():
            return v1.ChatResponse(tool_progress=item)
        case v1.TurnNotice():
            return v1.ChatResponse(turn_notice=item)
        case v1.FrameAck():
            return v1.ChatResponse(frame_ack=item)
        case v1.CaughtUp():
            return v1.ChatResponse(caught_up=item)
        case v1.GoAway():
            return v1.ChatResponse(go_away=item)


def feed_frame(item: Item) -> bytes | v1.SubscribeEventsResponse | None:
    """Return what a feed has to say as a frame of SubscribeEvents; None for what has no place there."""
    match item:
        case StoredEvent():
            return _field(_FEED_EVENT, item.payload)
        case v1.MessageDelta():
            return v1.SubscribeEventsResponse(message_delta=item)
        case v1.TurnNotice():
            return v1.SubscribeEventsResponse(turn_notice=item)
        case v1.CaughtUp():
            return v1.SubscribeEventsResponse(caught_up=item)
        case v1.Heartbeat():
            return v1.SubscribeEventsResponse(heartbeat=item)
        case v1.GoAway():
            return v1.SubscribeEventsResponse(go_away=item)
        case _:
            return None


def feed_event(event: StoredEvent, resume_token: str) -> bytes:
    """Return an event of a feed over all sessions."""
    return v1.SubscribeEventsResponse(resume_token=resume_token).SerializeToString() + _field(
        _FEED_EVENT, event.payload
    )


def event_page(events: Sequence[StoredEvent], after_seq: int, head_seq: int) -> bytes:
    """Return a page of ListSessionEvents."""
    last_seq = events[-1].seq if events else after_seq
    rest = v1.ListSessionEventsResponse(last_seq=last_seq, head_seq=head_seq)
    return b"".join(_field(_PAGE_EVENT, event.payload) for event in events) + rest.SerializeToString()


def _field(number: int, payload: bytes) -> bytes:
    """Return a length-delimited protobuf field."""
    return _head(number, len(payload)) + payload


@lru_cache(1024)
def _head(number: int, size: int) -> bytes:
    return _varint(number << 3 | 2) + _varint(size)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
