"""A server with limits: who has used them up is told which and how long to wait, and waiting so long is enough."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest
from google.rpc.error_details_pb2 import QuotaFailure, RetryInfo
from grpc_status import rpc_status

from agent_runtime import v1
from agent_runtime_client import Client, Notice
from agent_runtime_server.mockllm.server import MockServer
from clientkit.server import take
from servicekit.process import ServerProcess, serving
from servicekit.service import Service, reason_of

LIMITS = "user.turn=20/m:1, user.read=30/m:3, user.stream=40/m:8"


@pytest.fixture(scope="module")
async def limited(one_model: MockServer) -> AsyncIterator[ServerProcess]:
    settings = {"AGENT_RUNTIME_LLM_BASE_URL": one_model.base_url, "AGENT_RUNTIME_RATE_LIMITS": LIMITS}
    async with serving(settings) as server:
        yield server


@asynccontextmanager
async def connected(server: ServerProcess) -> AsyncIterator[Service]:
    service = Service(server.target)
    async with service.channel:
        yield service


async def called_until_refused(service: Service, request: v1.GetSessionRequest) -> grpc.aio.AioRpcError:
    for _ in range(200):
        try:
            await service.sessions.GetSession(request)
        except grpc.aio.AioRpcError as error:
            return error
    raise AssertionError("200 reads at once are more than the limit")


@pytest.mark.usefixtures("model")
async def test_messages_beyond_the_limit_wait_and_those_committed_are_known(limited: ServerProcess) -> None:
    async with connected(limited) as service, service.chat(await service.new_session()) as chat:
        messages = [v1.UserMessage(parts=[v1.Part(text=f"list {number}")]) for number in range(5)]
        acks = [
            await chat.submit(frame_id=f"m{number}", user_message=message) for number, message in enumerate(messages)
        ]
        first = next(place for place, ack in enumerate(acks) if ack.error.reason)
        error = next(ack.error for ack in reversed(acks) if ack.error.reason)
        assert first >= 1
        assert (acks[first].outcome, acks[first].error.reason) == (v1.FrameAck.OUTCOME_REJECTED, "QUOTA_EXCEEDED")
        assert error.metadata["quota"] == "user.turn"
        assert 0 < error.retry_delay.ToTimedelta().total_seconds() <= 3.3
        again = await chat.submit(frame_id="m0", user_message=messages[0])
        assert again.outcome == v1.FrameAck.OUTCOME_DUPLICATE, "what was committed is not refused afterwards"
        await asyncio.sleep(error.retry_delay.ToTimedelta().total_seconds())
        retried = await chat.submit(frame_id=f"m{first}", user_message=messages[first])
        assert retried.outcome == v1.FrameAck.OUTCOME_ACCEPTED


@pytest.mark.usefixtures("model")
async def test_a_client_waits_for_its_quota_and_says_so(limited: ServerProcess) -> None:
    async with Client(limited.target) as client:
        session = await client.create_session(agent_id="coder")
        async with client.chat(session.session_id) as chat, asyncio.TaskGroup() as group:
            sent = [group.create_task(chat.send(f"list {number}")) for number in range(3)]
            notice = await take(chat, Notice)
            while not all(task.done() for task in sent):
                await anext(chat)
            order = [task.result().seq for task in sent]
    assert notice.text.startswith("the limit of 20 turns a minute for user:local is reached")
    assert order == sorted(order)


async def test_requests_beyond_the_limit_are_refused_with_the_wait(limited: ServerProcess) -> None:
    async with connected(limited) as service:
        session_id = await service.new_session()
        request = v1.GetSessionRequest(session_id=session_id)
        error = await called_until_refused(service, request)
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert reason_of(error)[0] == "QUOTA_EXCEEDED"
        assert reason_of(error)[1]["quota"] == "user.read"
        failure, retry = QuotaFailure(), RetryInfo()
        for detail in rpc_status.from_call(error).details:  # type: ignore[arg-type] # as in reason_of
            assert any([detail.Unpack(failure), detail.Unpack(retry), True])
        assert failure.violations[0].quota_id == "user.read"
        assert failure.violations[0].subject == "user:local"
        await asyncio.sleep(retry.retry_delay.ToTimedelta().total_seconds())
        await service.sessions.GetSession(request)


async def test_streams_beyond_the_limit_are_refused_at_their_start(limited: ServerProcess) -> None:
    async with connected(limited) as service:
        session_id = await service.new_session()
        for _ in range(60):
            async with service.chat(session_id) as chat:
                await chat.until(lambda: True if chat.ended or chat.all("welcome") else None, "an answer")
                if chat.error is not None:
                    break
        assert chat.error is not None
        assert reason_of(chat.error)[1]["quota"] == "user.stream"
