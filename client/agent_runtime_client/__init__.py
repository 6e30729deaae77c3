"""Client of the Agent Runtime Service: sessions, chats that survive reconnects, reviews, local tools."""

from agent_runtime_client.chat import Chat
from agent_runtime_client.client import Client
from agent_runtime_client.errors import (
    CallFailed,
    ChatClosed,
    ClientError,
    JournalFailed,
    NotAllowed,
    Rejected,
    SessionGone,
    Superseded,
    ToolRefused,
    Unreachable,
)
from agent_runtime_client.journal import Journal
from agent_runtime_client.review import Review, ReviewUpdate
from agent_runtime_client.timing import Timing
from agent_runtime_client.tools import Limits, LocalTools, ToolExecutor
from agent_runtime_client.updates import (
    CaughtUp,
    ChatUpdate,
    Connected,
    Disconnected,
    Event,
    Notice,
    TextDelta,
)

__all__ = [
    "CallFailed",
    "CaughtUp",
    "Chat",
    "ChatClosed",
    "ChatUpdate",
    "Client",
    "ClientError",
    "Connected",
    "Disconnected",
    "Event",
    "Journal",
    "JournalFailed",
    "Limits",
    "LocalTools",
    "NotAllowed",
    "Notice",
    "Rejected",
    "Review",
    "ReviewUpdate",
    "SessionGone",
    "Superseded",
    "TextDelta",
    "Timing",
    "ToolExecutor",
    "ToolRefused",
    "Unreachable",
]
