"""The first frame of a stream, on Chat and on Hitl alike."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TypeVar

from agent_runtime import v1
from agent_runtime_server.rpc import acks
from agent_runtime_server.rpc.service import BadFrame, Incoming
from agent_runtime_server.rpc.validation import validate

Request = TypeVar("Request", v1.ChatRequest, v1.HitlRequest)


async def first_frame(requests: AsyncIterator[Incoming], kind: type[Request], seconds: float) -> Request:
    """Return the first frame, which must be a valid hello and come within `seconds`."""
    first: Incoming | None = None
    with suppress(TimeoutError, StopAsyncIteration):
        async with asyncio.timeout(seconds):
            first = await anext(requests)
    if isinstance(first, BadFrame):
        raise first.error
    if not isinstance(first, kind) or first.WhichOneof("frame") != "hello":
        raise acks.hello_required("the first frame must be a hello, sent at once")
    validate(first)
    return first
