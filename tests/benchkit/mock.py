"""A mock model that costs next to nothing: bytes made beforehand, one write a token at its time.

The user's text says what is wanted: `delay=5 tokens=64` is a token each 5 ms, `delay=0` everything in one write. With
`calls=2` two answers come before it that call a tool.
"""

import asyncio
import json
import re
import sys
from collections.abc import Mapping
from functools import cache
from typing import Final

import uvloop

_WANTED: Final = re.compile(rb"delay=(\d+) tokens=(\d+)")
_CALLS: Final = re.compile(r"calls=(\d+)")
_LENGTH: Final = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_MODELS: Final = b'{"object":"list","data":[{"id":"bench","object":"model","created":0,"owned_by":"bench"}]}'
TOKEN: Final = "token "


def _event(choices: list[object], **more: object) -> bytes:
    chunk = {"id": "chatcmpl-bench", "object": "chat.completion.chunk", "created": 0, "model": "bench"}
    data = b"data: %s\n\n" % json.dumps(chunk | {"choices": choices} | more).encode()
    return b"%x\r\n%s\r\n" % (len(data), data)


def _choice(delta: Mapping[str, object], reason: str | None = None) -> list[object]:
    return [{"index": 0, "delta": delta, "finish_reason": reason}]


_ROLE: Final = _event(_choice({"role": "assistant", "content": ""}))
_SAID: Final = _event(_choice({"content": TOKEN}))


@cache
def _ending(tokens: int) -> bytes:
    usage = {"prompt_tokens": 10, "completion_tokens": tokens, "total_tokens": 10 + tokens}
    done = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
    return _event(_choice({}, "stop")) + _event([], usage=usage) + done


@cache
def _whole(tokens: int) -> bytes:
    return _HEAD + _ROLE + _SAID * tokens + _ending(tokens)


def _calling(request: bytes) -> bytes | None:
    """Return an answer that calls a tool, while the latest message has not had as many as it wants."""
    messages = json.loads(request.partition(b"\r\n\r\n")[2])["messages"]
    done = 0
    for message in reversed(messages):
        if message["role"] == "user":
            wanted = _CALLS.search(json.dumps(message["content"]))
            return _call(done) if wanted and done < int(wanted[1]) else None
        done += message["role"] == "tool"
    return None


@cache
def _call(number: int) -> bytes:
    function = {"name": "read_file", "arguments": json.dumps({"path": f"file-{number}.txt"})}
    call = {"index": 0, "id": f"call_{number}", "type": "function", "function": function}
    ended = _event(_choice({}, "tool_calls")) + b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
    return _HEAD + _event(_choice({"tool_calls": [call]})) + ended


class _Connection(asyncio.Protocol):
    """One client, its requests answered one after the other."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self._transport = transport  # type: ignore[assignment] # uvloop's transports are no subclass

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None

    def data_received(self, data: bytes) -> None:
        self._held += data
        end = self._held.find(b"\r\n\r\n")
        if end < 0:
            return
        length = _LENGTH.search(self._held, 0, end)
        size = end + 4 + (int(length[1]) if length else 0)
        if len(self._held) >= size:
            request = bytes(self._held[:size])
            del self._held[:size]
            self._answer(request)

    def _answer(self, request: bytes) -> None:
        assert self._transport is not None
        if request.startswith(b"GET"):
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(_MODELS)
            self._transport.write(head + _MODELS)
            return
        if b"calls=" in request and (call := _calling(request)):
            self._transport.write(call)
            return
        wanted = _WANTED.findall(request[-4096:]) or _WANTED.findall(request)
        delay, tokens = (int(number) for number in wanted[-1])
        if not delay:
            self._transport.write(_whole(tokens))
            return
        self._transport.write(_HEAD + _ROLE)
        self._say(self._loop.time(), delay / 1000, 1, tokens)

    def _say(self, began: float, delay: float, number: int, tokens: int) -> None:
        """Say a token at its time; the ending goes with the last."""
        self._loop.call_at(began + number * delay, self._said, began, delay, number, tokens)

    def _said(self, began: float, delay: float, number: int, tokens: int) -> None:
        if self._transport is None:
            return
        if number == tokens:
            self._transport.write(_SAID + _ending(tokens))
        else:
            self._transport.write(_SAID)
            self._say(began, delay, number + 1, tokens)


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Connection, "127.0.0.1", 0, backlog=4096)
    sys.stdout.write(f"ready http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve())
