"""What a chat does with each frame it receives."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import grpc

from agent_runtime import v1
from agent_runtime.v1 import chat_service_pb2_grpc
from agent_runtime_client.calls import Calls, Stop
from agent_runtime_client.credentials import Metadata
from agent_runtime_client.cursor import Cursor, Place
from agent_runtime_client.deltas import Deltas
from agent_runtime_client.errors import CallFailed
from agent_runtime_client.ledger import Ledger
from agent_runtime_client.mailbox import Mailbox
from agent_runtime_client.status import Problem
from agent_runtime_client.updates import (
    CaughtUp,
    ChatUpdate,
    Connected,
    Disconnected,
    Event,
    Notice,
    TextDelta,
)

PROTOCOL_VERSION: Final = 1

History = Callable[[str, int, int], AsyncIterator[v1.SessionEvent]]


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """What a chat attaches as."""

    session_id: str
    client_id: str
    role: "v1.AttachRole.ValueType"
    after_seq: int = 0
    durable_only: bool = False
    user_agent: str = ""


class ChatSide:
    """The chat's part in an attachment: reads the log, orders deltas, hands out tool calls."""

    calls: Calls | None = None

    def __init__(
        self,
        options: ChatOptions,
        metadata: Metadata,
        mailbox: Mailbox[ChatUpdate],
        history: History,
    ) -> None:
        self.options = options
        self.tools: Sequence[v1.ToolSpec] = ()
        self.ledger = Ledger(options.client_id)
        self.session = v1.Session(session_id=options.session_id)
        self.welcome: v1.ChatWelcome | None = None
        self._metadata = metadata
        self._mailbox = mailbox
        self._history = history
        self._cursor = Cursor(options.after_seq)
        self._deltas = Deltas()
        self._live = False
        self._history_known = options.after_seq == 0
        self._told: set[str] = set()

    async def start(self, channel: grpc.aio.Channel) -> "grpc.aio.StreamStreamCall[v1.ChatRequest, v1.ChatResponse]":
        """Begin the RPC."""
        return chat_service_pb2_grpc.ChatServiceStub(channel).Chat(metadata=await self._metadata())

    def hello(self) -> v1.ChatRequest:
        """Return the first frame, for where the reader stands now."""
        options = self.options
        hello = v1.ChatHello(
            session_id=options.session_id,
            client_id=options.client_id,
            after_seq=self._cursor.last,
            role=options.role,
            tools=self.tools if self._is_executor() else (),
            protocol_version=PROTOCOL_VERSION,
            durable_only=options.durable_only,
            user_agent=options.user_agent,
        )
        return v1.ChatRequest(hello=hello)

    def ping(self) -> v1.ChatRequest:
        """Return a keepalive."""
        return v1.ChatRequest(ping=v1.Ping())

    async def welcomed(self, frame: v1.ChatResponse) -> None:
        """Take the first frame of a new stream."""
        self._live = False
        self.welcome = frame.welcome
        self.session = frame.welcome.session
        await self._mailbox.put(Connected(frame.welcome))
        for notice in frame.welcome.notices:
            if notice not in self._told:
                self._told.add(notice)
                await self._mailbox.put(Notice(notice))

    async def received(self, frame: v1.ChatResponse) -> Problem | None:
        """Take one more frame; a problem ends the stream."""
        kind = frame.WhichOneof("frame")
        if kind == "event":
            return await self._on_event(frame.event)
        if kind == "message_delta":
            await self._on_delta(frame.message_delta)
        elif kind == "tool_progress" and frame.tool_progress.call_id not in (self.calls or ()):
            self._mailbox.offer(frame.tool_progress)
        elif kind == "turn_notice":
            self._mailbox.offer(frame.turn_notice)
        elif kind == "caught_up":
            await self._on_caught_up(frame.caught_up)
        return None

    def event_of(self, frame: v1.ChatResponse) -> v1.SessionEvent | None:
        """Return the event in a frame, if it holds one."""
        return frame.event if frame.WhichOneof("frame") == "event" else None

    async def restarted(self, after_seq: int) -> None:
        """Go back to reading after `after_seq`, because what was before is gone."""
        lost = f"events {self._cursor.last + 1} to {after_seq} are no longer kept"
        self._cursor = Cursor(after_seq)
        await self._mailbox.put(Notice(lost))

    async def disconnected(self, reason: str, retry_in: float) -> None:
        """Tell that the stream is down for a while."""
        await self._mailbox.put(Disconnected(reason, retry_in))

    async def held_up(self, reason: str) -> None:
        """Tell that the server cannot take frames now; they are sent again until it can."""
        await self._mailbox.put(Notice(f"{reason}; trying again until it works"))

    async def _on_event(self, event: v1.SessionEvent) -> Problem | None:
        before = self._cursor.last
        place = self._cursor.step(event.seq)
        if place is Place.GAP:
            text = f"event {event.seq} came after {before}"
            return Problem(grpc.StatusCode.UNAVAILABLE, text)
        if place is Place.KNOWN:
            return None
        self._deltas.on_event(event)
        problem = self._lost_role(event)
        if self.calls is not None:
            await self._see_to_calls(self.calls, event)
        await self._mailbox.put(Event(event))
        return problem

    async def _see_to_calls(self, calls: Calls, event: v1.SessionEvent) -> None:
        kind = event.WhichOneof("payload")
        self.ledger.on_event(event, fresh=self._live)
        if kind == "tool_call_completed":
            await calls.completed(event.tool_call_completed.result.call_id)
        elif kind == "turn_cancel_requested":
            for open_call in self.ledger.of_turn(event.turn_id):
                calls.stop(open_call.call.call_id, Stop.CANCELLED)
        elif kind == "tool_call_dispatched":
            self._begin_due(calls)

    def _begin_due(self, calls: Calls) -> None:
        """Hand out calls, once the replay has shown which are still open."""
        granted = self.welcome is not None and self.welcome.role == v1.ATTACH_ROLE_EXECUTOR
        if self._live and granted:
            for open_call in self.ledger.due():
                calls.begin(open_call)

    def _lost_role(self, event: v1.SessionEvent) -> Problem | None:
        """Notice a new executor also when the status that says so is lost on the way."""
        changed, welcome = event.executor_changed, self.welcome
        if event.WhichOneof("payload") != "executor_changed" or welcome is None or not self._is_executor():
            return None
        newer = changed.epoch > welcome.executor_epoch
        if not newer or changed.client_id in ("", self.options.client_id):
            return None
        text = f"client {changed.client_id} runs this session's tools now"
        return Problem(grpc.StatusCode.ABORTED, text, "ATTACHMENT_SUPERSEDED")

    async def _on_delta(self, delta: v1.MessageDelta) -> None:
        told = self._deltas.on_delta(delta)
        if told is not None and not self._mailbox.merge(lambda newest: _joined(newest, told)):
            await self._mailbox.put(told)

    async def _on_caught_up(self, caught_up: v1.CaughtUp) -> None:
        if self.calls is not None and not self._history_known:
            self._history_known = await self._read_open_calls()
        self._live = True
        if self.calls is not None:
            self._begin_due(self.calls)
        await self._mailbox.put(CaughtUp(caught_up.head_seq))

    async def _read_open_calls(self) -> bool:
        """Learn of calls dispatched before the seq this chat began to read at."""
        turn = self.session.current_turn
        if not self.ledger.missing(turn.pending_call_ids):
            return True
        try:
            async for event in self._history(self.options.session_id, max(turn.first_seq - 1, 0), self._cursor.last):
                self.ledger.on_event(event)
        except CallFailed as error:
            await self._mailbox.put(Notice(f"open tool calls could not be read: {error}"))
            return False
        return True

    def _is_executor(self) -> bool:
        return self.options.role == v1.ATTACH_ROLE_EXECUTOR


def _joined(newest: ChatUpdate, told: TextDelta) -> TextDelta | None:
    """Return both pieces as one when `told` goes on where `newest` ends and nobody has read that yet."""
    if not isinstance(newest, TextDelta):
        return None
    same = replace(newest, text="", replace=False) == replace(told, text="", replace=False)
    if not same:
        return None
    return told if told.replace else replace(newest, text=newest.text + told.text)
