"""A stream that has grown old is told to go, and ended when it stays."""

import asyncio

import grpc
import pytest

from agent_runtime import v1
from servicekit.process import serving
from servicekit.service import Service, reason_of


async def test_reviewers_and_feeds_grow_old_too_and_then_their_connection_is_closed() -> None:
    async with serving({"AGENT_RUNTIME_STREAM_SECONDS": "3", "AGENT_RUNTIME_CONNECTION_IDLE_SECONDS": "1"}) as server:
        service = Service(server.target)
        async with service.channel, service.review() as review:
            feed = service.events.SubscribeEvents(v1.SubscribeEventsRequest())
            assert (await review.frame("go_away")).reason == v1.GoAway.REASON_MAX_AGE
            error = await review.end()
            assert error is not None
            assert reason_of(error)[0] == "SERVER_DRAINING"
            with pytest.raises(grpc.aio.AioRpcError, match="greatest age"):
                [frame async for frame in feed]
            async with asyncio.timeout(60):
                await service.channel.wait_for_state_change(grpc.ChannelConnectivity.READY)
            assert service.channel.get_state() is grpc.ChannelConnectivity.IDLE
            assert await service.new_session(), "the next call connects again"


async def test_an_old_stream_is_told_to_come_back_and_then_ended() -> None:
    async with serving({"AGENT_RUNTIME_STREAM_SECONDS": "3"}) as server:
        service = Service(server.target)
        session_id = await service.new_session()
        async with service.channel, service.chat(session_id) as chat:
            go_away = await chat.frame("go_away")
            assert go_away.reason == v1.GoAway.REASON_MAX_AGE
            error = await chat.end()
            assert error is not None
            assert reason_of(error)[0] == "SERVER_DRAINING"
