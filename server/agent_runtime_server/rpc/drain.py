"""A replica's end: say so, let streams go and steps finish, then end what has stayed."""

import asyncio
from contextlib import suppress

import grpc.aio

from agent_runtime_server.rpc.health import Health
from agent_runtime_server.rpc.replica import Replica, draining

_LOOK_SECONDS = 0.05
_ABANDON_SECONDS = 3  # for the commits that let go of aborted steps
_CALLS_SECONDS = 5  # for unary calls that are still answered


async def drain(
    server: grpc.aio.Server, replica: Replica, health: Health, seconds: float, hurry: asyncio.Event
) -> None:
    """Leave within `seconds`, sooner when nothing is left to wait for, and at once when `hurry` is set."""
    health.draining()
    replica.leave(seconds)
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while (replica.staying or replica.hub.active_sessions) and not hurry.is_set():
                await _pause(hurry)
    await replica.hub.abandon(_ABANDON_SECONDS)
    replica.ending.set()
    replica.reviews.changed()
    replica.hub.end_feeds(draining())
    health.end()
    await server.stop(_CALLS_SECONDS)


async def _pause(hurry: asyncio.Event) -> None:
    """Streams end by themselves, and nothing tells of the last: look again soon, or now in a hurry."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_LOOK_SECONDS):
            await hurry.wait()
