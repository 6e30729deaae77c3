"""A server that has enough to do refuses new turns early, and what runs is not held up."""

import asyncio
from contextlib import AsyncExitStack

import grpc
import pytest
from google.rpc.error_details_pb2 import QuotaFailure, RetryInfo
from grpc_status import rpc_status

from agent_runtime import v1
from agent_runtime_server.mockllm.server import MockServer, mock_server
from servicekit.keys import keys_of
from servicekit.model import asked
from servicekit.process import serving
from servicekit.service import Service, reason_of
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


async def said(service: Service, text: str) -> str:
    """Say something in a new session, without a stream; returns the session."""
    session_id = await service.new_session()
    message = v1.ChatRequest(frame_id="f1", user_message=v1.UserMessage(parts=[v1.Part(text=text)]))
    await service.chat_service.SubmitFrame(
        v1.SubmitFrameRequest(session_id=session_id, client_id="client-1", frame=message)
    )
    return session_id


async def test_a_tenant_that_takes_all_turns_is_refused_and_keeps_nobody_else_out() -> None:
    async with AsyncExitStack() as stack:
        model: MockServer = await stack.enter_async_context(mock_server())
        model.use([SLOW])
        settings = {
            "AGENT_RUNTIME_LLM_BASE_URL": model.base_url,
            "AGENT_RUNTIME_MAX_RUNNING_TURNS": "4",
            "AGENT_RUNTIME_AUTH_MODE": "required",
        }
        server = await stack.enter_async_context(serving(settings))
        async with keys_of(server) as ring:
            noisy, other = [Service(server.target, await ring.new(tenant, "user")) for tenant in ("noisy", "other")]
        for service in (noisy, other):
            await stack.enter_async_context(service.channel)
        begun = [(noisy, await said(noisy, "slow")) for _ in range(4)]
        await until(lambda: len(asked(model)) == 4, "all turns there are run")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await said(noisy, "slow")
        assert reason_of(refused.value)[0] == "QUOTA_EXCEEDED"
        status = rpc_status.from_call(refused.value)  # type: ignore[arg-type] # it reads what both kinds of call have
        assert status is not None
        retry, quota = RetryInfo(), QuotaFailure()
        assert any(detail.Unpack(retry) for detail in status.details)
        assert any(detail.Unpack(quota) for detail in status.details)
        assert 1 <= retry.retry_delay.ToTimedelta().total_seconds() <= 3.3
        assert quota.violations[0].quota_id == "capacity.running_turns"
        begun.append((other, await said(other, "slow")))
        for service, session_id in begun:
            await _completed(service, session_id)


async def _completed(service: Service, session_id: str) -> None:
    async with service.chat(session_id, client_id="client-2") as chat:
        assert (await chat.finished()).state == v1.TURN_STATE_COMPLETED
