"""An OpenAI-compatible endpoint that does to each request what the present moment says."""

import asyncio
import json
import logging
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import Enum, auto

from aiohttp import web

PIECES = 10


class Fault(Enum):
    """What becomes of a request."""

    NONE = auto()
    THROTTLED = auto()
    UNAVAILABLE = auto()
    HANG = auto()
    HANG_MID = auto()
    RESET_MID = auto()
    TRUNCATED = auto()
    DRIP = auto()
    GONE = auto()


class Endpoint:
    """Answers with PIECES pieces of text at a pace, unless `fault` says otherwise."""

    def __init__(self, answer_seconds: float) -> None:
        self.fault: Callable[[], Fault] = lambda: Fault.NONE
        self.calls = 0
        self.probes = 0
        self.base_url = ""
        self._pause = answer_seconds / PIECES

    async def models(self, request: web.Request) -> web.StreamResponse:
        """Answer a probe, if it is there at all."""
        self.probes += 1
        if self.fault() is Fault.GONE:
            _reset(request)
        return web.json_response({"object": "list", "data": []})

    async def completions(self, request: web.Request) -> web.StreamResponse:
        """Answer a call, or do what goes wrong."""
        self.calls += 1
        fault = self.fault()
        await request.read()
        match fault:
            case Fault.GONE:
                _reset(request)
            case Fault.THROTTLED:
                return web.json_response({"error": "too many"}, status=429, headers={"retry-after": "2"})
            case Fault.UNAVAILABLE:
                return web.json_response({"error": "overloaded"}, status=503)
            case Fault.HANG:
                await asyncio.Event().wait()
        return await self._stream(request, fault)

    async def _stream(self, request: web.Request, fault: Fault) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for number in range(PIECES):
            if number == 3 and fault is Fault.HANG_MID:
                await asyncio.Event().wait()
            if number == 3 and fault is Fault.RESET_MID:
                _reset(request)
            if number == 3 and fault is Fault.TRUNCATED:
                await response.write(b'data: {"choices": [{"delta": {"con')
                return response
            await self._write(response, _chunk({"content": f"piece {number} "}), slowly=fault is Fault.DRIP)
            await asyncio.sleep(self._pause)
        await response.write(_chunk({}, "stop") + b"data: [DONE]\n\n")
        return response

    async def _write(self, response: web.StreamResponse, data: bytes, *, slowly: bool) -> None:
        """Write at once, or in small pieces with pauses."""
        piece = 16 if slowly else len(data)
        for start in range(0, len(data), piece):
            await response.write(data[start : start + piece])
            if slowly:
                await asyncio.sleep(self._pause / 10)


@asynccontextmanager
async def endpoint(answer_seconds: float) -> AsyncIterator[Endpoint]:
    """Serve an endpoint while the block runs."""
    made = Endpoint(answer_seconds)
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)  # what is broken off is broken off on purpose
    application = web.Application(client_max_size=64 << 20)
    application.add_routes([web.get("/v1/models", made.models), web.post("/v1/chat/completions", made.completions)])
    runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        made.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        yield made
    finally:
        await runner.cleanup()


def often(fault: Fault, share: float) -> Callable[[float], Fault]:
    """Return a schedule by which a share of the requests meets a fault."""
    return lambda _: fault if random.random() < share else Fault.NONE


def in_bursts(fault: Fault, on: float, off: float) -> Callable[[float], Fault]:
    """Return a schedule by which every request meets a fault for some seconds, then none for some."""
    return lambda seconds: fault if seconds % (on + off) < on else Fault.NONE


def _chunk(delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + json.dumps({"object": "chat.completion.chunk", "choices": [choice]}).encode() + b"\n\n"


def _reset(request: web.Request) -> None:
    """Break the connection off."""
    if request.transport is not None:
        request.transport.abort()
    raise ConnectionResetError("as scheduled")
