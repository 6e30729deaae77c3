"""A server that keeps a log, and a network that breaks at any frame: each message is kept once, in order."""

import asyncio
import random

import grpc
import pytest

from agent_runtime import v1
from agent_runtime_client import Chat, Client, Event
from clientkit.events import event
from clientkit.server import ChatStream, ClientGone, ScriptedServer, status

MESSAGES = 40


class Log:
    """The server's durable side: commits first, answers later, forgets nothing."""

    def __init__(self, chance: random.Random) -> None:
        self.events: list[v1.SessionEvent] = []
        self._seqs: dict[str, int] = {}
        self._chance = chance

    async def serve(self, server: ScriptedServer) -> None:
        """Serve one stream after the other until cancelled."""
        while True:
            stream = await server.chats.get()
            try:
                await self._attend(stream)
            except (AssertionError, ClientGone, TimeoutError, grpc.aio.AioRpcError, asyncio.InvalidStateError):
                stream.end()

    async def _attend(self, stream: ChatStream) -> None:
        await stream.welcome(*self.events[stream.hello.after_seq :], head=len(self.events))
        while True:
            frame = await stream.receive()
            if self._breaks(stream):
                return
            duplicate = frame.frame_id in self._seqs
            if not duplicate:
                self.events.append(
                    event(len(self.events) + 1, frame_id=frame.frame_id, user_message=frame.user_message)
                )
                self._seqs[frame.frame_id] = len(self.events)
            if self._breaks(stream):
                return
            if not duplicate:
                await stream.events(self.events[-1])
            if self._breaks(stream):
                return
            await stream.ack(frame, seq=self._seqs[frame.frame_id], duplicate=duplicate)

    def _breaks(self, stream: ChatStream) -> bool:
        broken = self._chance.random() < 0.15
        if broken:
            stream.end(status(self._chance.choice([grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL])))
        return broken


async def read(chat: Chat) -> list[int]:
    seqs: list[int] = []
    async for update in chat:
        if isinstance(update, Event):
            seqs.append(update.event.seq)
            if len(seqs) == MESSAGES:
                break
    return seqs


@pytest.mark.parametrize("seed", range(6))
async def test_each_message_is_kept_once_and_in_order(server: ScriptedServer, client: Client, seed: int) -> None:
    log = Log(random.Random(seed))
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(log.serve(server))
        async with client.chat("s1") as chat:
            reading = group.create_task(read(chat))
            sends = [group.create_task(chat.send(str(number))) for number in range(MESSAGES)]
            acks = [await sent for sent in sends]
            assert await reading == list(range(1, MESSAGES + 1))
        serving.cancel()
    assert [item.user_message.parts[0].text for item in log.events] == [str(number) for number in range(MESSAGES)]
    assert [ack.seq for ack in acks] == list(range(1, MESSAGES + 1))
