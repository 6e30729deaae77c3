"""Turns, many at once, and what became of each."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import uuid4

import grpc.aio

from agent_runtime import v1
from servicekit.service import Service

_WATCHED = ("turn_finished", "turn_parked")


@dataclass
class Turn:
    """One turn, as its session's events tell it."""

    begun: float
    parked: bool = False
    ended: float = 0
    state: int = 0
    reason: str = ""
    over: asyncio.Event = field(default_factory=asyncio.Event)


class Load:
    """Keeps a number of turns going, each in a session of its own."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.turns: dict[str, Turn] = {}
        self._going = True

    async def watch(self) -> None:
        """Follow all sessions until cancelled."""
        token = ""
        while True:
            request = v1.SubscribeEventsRequest(event_types=_WATCHED, resume_token=token)
            try:
                async for frame in self._service.events.SubscribeEvents(request):
                    token = frame.resume_token or token
                    if frame.HasField("event"):
                        self._note(frame.event)
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.1)

    def _note(self, event: v1.SessionEvent) -> None:
        turn = self.turns.get(event.session_id)
        if turn is None:
            return
        if event.HasField("turn_parked"):
            turn.parked = True
            return
        turn.ended, turn.state = time.monotonic(), event.turn_finished.state
        turn.reason = event.turn_finished.error.reason
        turn.over.set()

    async def work(self) -> None:
        """Run one turn after the other until told to stop."""
        while self._going:
            session_id = f"chaos-{uuid4().hex}"
            turn = self.turns[session_id] = Turn(time.monotonic())
            await self._service.sessions.CreateSession(v1.CreateSessionRequest(session_id=session_id, agent_id="coder"))
            frame = v1.ChatRequest(frame_id="f1", user_message=v1.UserMessage(parts=[v1.Part(text="go on")]))
            await self._service.chat_service.SubmitFrame(
                v1.SubmitFrameRequest(session_id=session_id, client_id="chaos", frame=frame)
            )
            await turn.over.wait()

    def stop(self) -> None:
        """Begin no more turns."""
        self._going = False

    def finished(self, since: float, until: float) -> int:
        """Return how many turns ended well in a span of time."""
        return sum(
            since <= turn.ended < until and turn.state == v1.TURN_STATE_COMPLETED for turn in self.turns.values()
        )


@asynccontextmanager
async def load(service: Service, turns: int, patience: float) -> AsyncIterator[Load]:
    """Keep turns going while the block runs, then wait for those that are still under way."""
    made = Load(service)
    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(made.watch())
        workers = [tasks.create_task(made.work()) for _ in range(turns)]
        try:
            yield made
        finally:
            made.stop()
            _, late = await asyncio.wait(workers, timeout=patience)
            for task in (*late, watching):
                task.cancel()
