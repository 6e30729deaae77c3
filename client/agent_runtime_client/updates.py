"""What a chat tells the application, one kind a class."""

from dataclasses import dataclass

from agent_runtime import v1


@dataclass(frozen=True, slots=True)
class Event:
    """A durable event of the session; each seq comes once and in order."""

    event: v1.SessionEvent


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of a message being written: text to append, or with `replace` the whole text so far."""

    turn_id: str
    message_id: str
    attempt: int
    channel: "v1.MessageDelta.Channel.ValueType"
    text: str
    replace: bool = False
    call_id: str = ""


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """All history up to `head_seq` was told; what follows is live. Comes after each connect."""

    head_seq: int


@dataclass(frozen=True, slots=True)
class Connected:
    """A stream is up; the welcome says on what terms."""

    welcome: v1.ChatWelcome


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The stream is down; the next attempt follows by itself in `retry_in` seconds."""

    reason: str
    retry_in: float


@dataclass(frozen=True, slots=True)
class Notice:
    """A sentence the user should see once."""

    text: str


ChatUpdate = Event | TextDelta | v1.ToolProgress | v1.TurnNotice | CaughtUp | Connected | Disconnected | Notice
