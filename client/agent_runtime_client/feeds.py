"""Feeds of events that reconnect by themselves."""

from collections.abc import AsyncIterator, Sequence

from agent_runtime import v1
from agent_runtime_client.channels import Channels
from agent_runtime_client.timing import Timing


async def follow(
    channels: Channels,
    request: v1.SubscribeEventsRequest,
    metadata: Sequence[tuple[str, str]],
    timing: Timing,
) -> AsyncIterator[v1.SubscribeEventsResponse]:
    """Yield the feed's frames, each event once, over as many streams as it takes."""
    raise NotImplementedError
    yield
