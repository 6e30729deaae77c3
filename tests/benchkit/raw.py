"""The limit: a bare grpc.aio server that answers a message with the frames of a turn, and does nothing else."""

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
import uvloop

from agent_runtime import v1
from agent_runtime.v1 import chat_service_pb2_grpc
from benchkit.mock import TOKEN


class _Chat(chat_service_pb2_grpc.ChatServiceServicer):
    async def SubmitFrame(self, request: v1.SubmitFrameRequest, context: Any) -> v1.SubmitFrameResponse:  # noqa: N802
        """Nobody calls it."""
        raise NotImplementedError

    # The generated signature is that of the synchronous kind.
    async def Chat(self, requests: AsyncIterator[v1.ChatRequest], context: Any) -> None:  # type: ignore[override] # noqa: N802
        """Answer each user message with an event, its ack left out, 64 deltas and a last event."""
        await context.write(v1.ChatResponse(welcome=v1.ChatWelcome()))
        async for request in requests:
            if not request.HasField("user_message"):
                continue
            await context.write(_event(user_message=request.user_message))
            for index in range(64):
                delta = v1.MessageDelta(turn_id="turn-1", message_id="msg-1", attempt=1, index=index, text=TOKEN)
                delta.channel = v1.MessageDelta.CHANNEL_TEXT
                await context.write(v1.ChatResponse(message_delta=delta))
            await context.write(_event(turn_finished=v1.TurnFinished(state=v1.TURN_STATE_COMPLETED)))


def _event(**payload: Any) -> v1.ChatResponse:
    return v1.ChatResponse(event=v1.SessionEvent(seq=1, session_id="session-1", turn_id="turn-1", **payload))


async def _serve() -> None:
    server = grpc.aio.server()
    chat_service_pb2_grpc.add_ChatServiceServicer_to_server(_Chat(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    sys.stdout.write(f"ready 127.0.0.1:{port}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve())
