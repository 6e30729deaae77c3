"""Many clients that write to one session at once, over every replica."""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final

import grpc.aio

from agent_runtime import v1
from killkit.sequential import Told
from servicekit.service import Service
from servicekit.streams import ChatStream, decision

_ANSWER_SECONDS: Final = 20


class Writer:
    """One client: it watches the session on one replica, and writes to it over all of them."""

    def __init__(self, name: str, session_id: str, services: Sequence[Service], seed: int) -> None:
        self._name = name
        self._session_id = session_id
        self._services = services
        self._chance = Random(seed)
        self._numbers = 0
        self.told: list[Told] = []

    async def write(self, frames: int) -> None:
        """Write so many frames, each of them once or more."""
        home = self._chance.choice(self._services)
        hello = {"client_id": self._name, "role": v1.ATTACH_ROLE_OBSERVER}
        async with home.chat(self._session_id, **hello) as stream:
            await stream.frame("caught_up")
            for _ in range(frames):
                await self._tell(stream, self._next(stream))

    def _next(self, stream: ChatStream) -> v1.ChatRequest:
        """Return a frame that makes sense by what this client has seen, or no longer does."""
        self._numbers += 1
        events = [frame.event for frame in stream.frames if frame.WhichOneof("frame") == "event"]
        makers: list[Callable[[Sequence[v1.SessionEvent]], v1.ChatRequest | None]] = [
            self._message, self._result, self._result, self._decision, self._decision, self._cancel,
        ]  # fmt: skip
        frame = self._chance.choice(makers)(events) or self._message(events)
        frame.frame_id = f"{self._name}-{self._numbers}"
        return frame

    def _message(self, _: Sequence[v1.SessionEvent]) -> v1.ChatRequest:
        said = v1.UserMessage(parts=[v1.Part(text=f"{self._name} says {self._numbers}")], agent_id="coder")
        return v1.ChatRequest(user_message=said)

    def _result(self, events: Sequence[v1.SessionEvent]) -> v1.ChatRequest | None:
        done = {event.tool_call_completed.result.call_id for event in events}
        calls = [event.tool_call_dispatched.tool_call for event in events if event.HasField("tool_call_dispatched")]
        calls = [call for call in calls if call.call_id not in done]
        if not calls:
            return None
        result = v1.ToolResult(call_id=self._chance.choice(calls).call_id, status=v1.ToolResult.STATUS_SUCCEEDED)
        result.content.add(text=f"as {self._name} sees it")
        return v1.ChatRequest(tool_result=result)

    def _decision(self, events: Sequence[v1.SessionEvent]) -> v1.ChatRequest | None:
        over = {event.approval_resolved.approval.approval_id for event in events}
        asked = [event.approval_requested.approval for event in events if event.HasField("approval_requested")]
        asked = [approval for approval in asked if approval.approval_id not in over]
        if not asked:
            return None
        verdict = self._chance.choice([v1.APPROVAL_VERDICT_APPROVE, v1.APPROVAL_VERDICT_REJECT])
        return v1.ChatRequest(approval_decision=decision(self._chance.choice(asked), verdict))

    def _cancel(self, _: Sequence[v1.SessionEvent]) -> v1.ChatRequest:
        return v1.ChatRequest(cancel_turn=v1.CancelTurn(reason=self._name))

    async def _tell(self, stream: ChatStream, frame: v1.ChatRequest) -> None:
        """Send a frame by several ways at once, or again after its answer; each way is a retry of the same frame."""
        told = Told(frame, time.monotonic())
        self.told.append(told)
        ways = [self._chance.choice([self._over_stream, self._alone]) for _ in range(self._chance.randint(1, 3))]
        if self._chance.random() < 0.5:
            await asyncio.gather(*(way(stream, told) for way in dict.fromkeys(ways)))
        else:
            for way in ways:
                await way(stream, told)

    async def _over_stream(self, stream: ChatStream, told: Told) -> None:
        number = sum(1 for ack in stream.all("frame_ack") if ack.frame_id == told.frame.frame_id)
        await stream.write(told.frame)
        ack = await stream.ack(told.frame.frame_id, number)
        told.answers.append((time.monotonic(), ack))

    async def _alone(self, _: ChatStream, told: Told) -> None:
        service = self._chance.choice(self._services)
        request = v1.SubmitFrameRequest(session_id=self._session_id, client_id=self._name, frame=told.frame)
        try:
            answer = await service.chat_service.SubmitFrame(request, timeout=_ANSWER_SECONDS)
        except grpc.aio.AioRpcError as error:
            refused = v1.FrameAck(frame_id=told.frame.frame_id, outcome=v1.FrameAck.OUTCOME_REJECTED)
            refused.error.message = error.details() or ""
            told.answers.append((time.monotonic(), refused))
        else:
            told.answers.append((time.monotonic(), answer.frame_ack))


def rules(seconds: float) -> list[dict[str, Any]]:
    """Return a script of a model that asks for two calls at once, one of which needs an approval, and then is done."""
    calls = [
        {"name": "read_file", "arguments": {"path": "a"}},
        {"name": "write_file", "arguments": json.dumps({"path": "b", "content": "c"})},
    ]
    pace = {"delay_ms": seconds * 1000}
    return [
        {"match": {"last_role": "user"}, "answer": {"text": "I look.", "tool_calls": calls}, "pace": pace},
        {"answer": {"text": "Done."}, "pace": pace},
    ]
