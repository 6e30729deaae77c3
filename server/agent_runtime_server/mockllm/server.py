"""The mock model's HTTP server."""

import asyncio
import itertools
import json
import socket
import struct
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final

from aiohttp import web

from agent_runtime_server.mockllm.behaviour import behave
from agent_runtime_server.mockllm.play import Fault, FaultKind, Pace, Play
from agent_runtime_server.mockllm.script import Script, ScriptError, parse_script
from agent_runtime_server.mockllm.seen import BadRequest, read_request
from agent_runtime_server.mockllm.wire import MODEL, Reply, event

_LARGEST_REQUEST: Final = 64 * 1024 * 1024
_LONGEST_JOURNAL: Final = 1000
_DRIP_SECONDS: Final = 0.02
_ABOUT: Final = "This is a mock model. It knows no language: it follows a script and a few keywords.\n"
_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER with no time left: close() sends RST


@dataclass(slots=True)
class Entry:
    """A request in the journal; `outcome` is open, answered, refused, fault or client left."""

    number: int
    time: float
    peer: str
    authorized: bool
    request: object
    source: str = ""
    outcome: str = "open"


class MockServer:
    """A running mock model."""

    def __init__(self, script: Script, delay_ms: float, journal_file: Path | None = None) -> None:
        self.script = script
        self.journal: deque[Entry] = deque(maxlen=_LONGEST_JOURNAL)
        self.base_url = ""
        self._delay_ms = delay_ms
        self._journal_file = journal_file
        self._numbers = itertools.count(1)

    def use(self, rules: Sequence[object]) -> None:
        """Replace the script by these rules."""
        self.script = parse_script(list(rules))

    def application(self) -> web.Application:
        """Return the web application."""
        application = web.Application(client_max_size=_LARGEST_REQUEST)
        application.add_routes(
            [
                web.get("/", self._about),
                web.get("/v1/models", self._models),
                web.post("/v1/chat/completions", self._completions),
                web.get("/journal", self._show_journal),
                web.post("/script", self._replace_script),
            ]
        )
        return application

    async def _about(self, _: web.Request) -> web.Response:
        return web.Response(text=_ABOUT)

    async def _models(self, _: web.Request) -> web.Response:
        model = {"id": MODEL, "object": "model", "created": 0, "owned_by": "mock model"}
        return web.json_response({"object": "list", "data": [model]})

    async def _show_journal(self, _: web.Request) -> web.Response:
        return web.json_response([asdict(entry) for entry in self.journal])

    async def _replace_script(self, request: web.Request) -> web.Response:
        try:
            self.script = parse_script(await request.json())
        except (ScriptError, ValueError) as error:
            return _error(HTTPStatus.BAD_REQUEST, str(error))
        return web.json_response({"rules": len(self.script.rules)})

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        entry = Entry(next(self._numbers), time.time(), _peer_of(request), "authorization" in request.headers, None)
        self.journal.append(entry)
        try:
            return await self._answer(request, entry)
        except ConnectionError:
            entry.outcome = "client left"
            return web.Response()  # for nobody; an error would be logged as one of this server
        except asyncio.CancelledError:
            entry.outcome = "client left"
            raise
        finally:
            self._note(entry)

    async def _answer(self, request: web.Request, entry: Entry) -> web.StreamResponse:
        try:
            entry.request = await request.json()
            seen = read_request(entry.request)
        except (BadRequest, ValueError) as error:
            entry.outcome = "refused"
            return _error(HTTPStatus.BAD_REQUEST, str(error), "invalid_request_error")
        play = self.script.play(seen) or Play(behave(seen))
        entry.source = play.source
        if refusal := await _before(play.fault):
            entry.outcome = "fault"
            return refusal
        reply = Reply(f"chatcmpl-mock{entry.number}", int(entry.time), seen, play.answer)
        if seen.stream and not (play.fault and play.fault.kind is FaultKind.NOT_STREAMED):
            response = await _stream(request, reply, play, self._delay_ms)
        else:
            response = web.json_response(reply.document())
        entry.outcome = "fault" if play.fault else "answered"
        return response

    def _note(self, entry: Entry) -> None:
        if self._journal_file:
            with self._journal_file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(entry), ensure_ascii=False) + "\n")


@asynccontextmanager
async def mock_server(
    script: Script | Sequence[object] | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    delay_ms: float = 0,
    journal_file: Path | None = None,
) -> AsyncIterator[MockServer]:
    """Serve a mock model while the block runs; port 0 takes a free one, `base_url` tells which."""
    rules = script if isinstance(script, Script) else parse_script(list(script or ()))
    server = MockServer(rules, delay_ms, journal_file)
    runner = web.AppRunner(server.application(), handler_cancellation=True, shutdown_timeout=0.1, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        where = f"[{host}]" if ":" in host else host
        server.base_url = f"http://{where}:{runner.addresses[0][1]}/v1"
        yield server
    finally:
        await runner.cleanup()


async def _before(fault: Fault | None) -> web.Response | None:
    """Do what a fault does before there is an answer."""
    if fault and fault.kind is FaultKind.HANG:
        await asyncio.Event().wait()
    if fault and fault.kind is FaultKind.STATUS:
        headers = {"retry-after": fault.retry_after} if fault.retry_after else None
        return _error(fault.status, fault.message, "mock_fault", headers)
    return None


async def _stream(request: web.Request, reply: Reply, play: Play, delay_ms: float) -> web.StreamResponse:
    response = web.StreamResponse(
        headers={"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
    )
    await response.prepare(request)
    delay = (delay_ms if play.pace.delay_ms is None else play.pace.delay_ms) / 1000
    writer = _Writer(response, play.pace, delay)
    await asyncio.sleep(play.pace.first_delay_ms / 1000)
    await writer.write(reply.chunk({"role": "assistant", "content": ""}))
    for said, delta in enumerate(reply.tokens()):
        if play.fault and said == play.fault.after_tokens:
            await writer.flush()
            if await _in_the_middle(play.fault, request, writer):
                return response
        await writer.token(reply.chunk(delta))
    await writer.flush()
    if play.fault and await _in_the_middle(play.fault, request, writer):
        return response
    await writer.write(b"".join(reply.ending()))
    return response


async def _in_the_middle(fault: Fault, request: web.Request, writer: "_Writer") -> bool:
    """Do what a fault does in the middle of an answer; True when nothing follows."""
    match fault.kind:
        case FaultKind.HANG_MID:
            await asyncio.Event().wait()
        case FaultKind.RESET_MID:
            _reset(request)
        case FaultKind.MALFORMED:
            await writer.write(b'data: {"choices": [\n\n')
        case FaultKind.ERROR:
            error = {"message": fault.message, "type": "mock_fault", "code": str(fault.status)}
            await writer.write(event({"error": error}))
        case FaultKind.DRIP:
            writer.drip()
            return False
        case _:  # the stream just ends
            pass
    return True


def _peer_of(request: web.Request) -> str:
    peer = request.transport.get_extra_info("peername") if request.transport else None
    return ":".join(map(str, peer[:2])) if peer else ""


def _reset(request: web.Request) -> None:
    transport = request.transport
    if transport is None:
        return
    connection = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    transport.abort()


def _error(status: int, message: str, kind: str = "mock_error", headers: dict[str, str] | None = None) -> web.Response:
    body = {"error": {"message": message, "type": kind, "code": str(int(status))}}
    return web.json_response(body, status=int(status), headers=headers)


class _Writer:
    """Writes chunks at a pace: so many tokens at once, each at its time from the start of the answer."""

    def __init__(self, response: web.StreamResponse, pace: Pace, delay: float) -> None:
        self._response = response
        self._pace = pace
        self._delay = delay
        self._gathered: list[bytes] = []
        self._due = asyncio.get_running_loop().time() + pace.first_delay_ms / 1000
        self._piece = pace.chunk_bytes
        self._piece_seconds = 0.0

    async def token(self, chunk: bytes) -> None:
        """Write a token's chunk, or keep it until enough are there."""
        self._gathered.append(chunk)
        if self._delay and len(self._gathered) >= self._pace.tokens:
            await self.flush()
            self._due += self._delay
            await asyncio.sleep(max(0.0, self._due - asyncio.get_running_loop().time()))

    async def flush(self) -> None:
        """Write what was kept."""
        gathered, self._gathered = b"".join(self._gathered), []
        if gathered:
            await self.write(gathered)

    async def write(self, data: bytes) -> None:
        """Write, cut into pieces where the pace says so."""
        piece = self._piece or len(data)
        for start in range(0, len(data), piece):
            await self._response.write(data[start : start + piece])
            if self._piece:
                await asyncio.sleep(self._piece_seconds)

    def drip(self) -> None:
        """From now on write one byte at a time, slowly."""
        self._piece, self._piece_seconds = 1, _DRIP_SECONDS
