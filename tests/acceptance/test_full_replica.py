"""A server that has enough to do refuses new turns early, and what runs is not held up."""

import asyncio
from contextlib import AsyncExitStack

from agent_runtime import v1
from agent_runtime_server.mockllm.server import MockServer, mock_server
from servicekit.model import asked
from servicekit.process import serving
from servicekit.service import Service
from servicekit.waiting import until

SLOW = {"match": {"last_user": "slow"}, "answer": {"text": "word " * 40}, "pace": {"first_delay_ms": 6000}}


async def test_turns_beyond_the_capacity_wait_for_those_that_run() -> None:
    async with AsyncExitStack() as stack:
        model: MockServer = await stack.enter_async_context(mock_server())
        settings = {"AGENT_RUNTIME_LLM_BASE_URL": model.base_url, "AGENT_RUNTIME_MAX_RUNNING_TURNS": "2"}
        server = await stack.enter_async_context(serving(settings))
        service = Service(server.target)
        await stack.enter_async_context(service.channel)
        model.use([SLOW, {"answer": {"text": "done"}}])
        chats = [await stack.enter_async_context(service.chat(await service.new_session())) for _ in range(3)]
        for chat in chats[:2]:
            await chat.say("slow")
        await until(lambda: len(asked(model)) == 2, "the model was asked twice")
        refused = await chats[2].say("quick")
        assert refused.error.reason == "QUOTA_EXCEEDED"
        assert refused.error.metadata["quota"] == "capacity.running_turns"
        assert refused.error.retry_delay.ToTimedelta().total_seconds() >= 1
        for chat in chats[:2]:
            assert (await chat.finished()).state == v1.TURN_STATE_COMPLETED
        for _ in range(20):  # until their runners have ended too
            again = await chats[2].say("quick")
            if again.outcome == v1.FrameAck.OUTCOME_ACCEPTED:
                break
            await asyncio.sleep(again.error.retry_delay.ToTimedelta().total_seconds())
        assert (await chats[2].finished()).state == v1.TURN_STATE_COMPLETED
