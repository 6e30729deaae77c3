"""grpcurl: a client that knows nothing of ours but what the server's reflection tells it."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from google.protobuf import json_format
from google.protobuf.message import Message

_PATIENCE: Final = 30

Answer = TypeVar("Answer", bound=Message)


@dataclass(frozen=True, slots=True)
class Said:
    """What a run of grpcurl left."""

    status: int
    out: str
    err: str

    def answer(self, kind: type[Answer]) -> Answer:
        """Return the response."""
        return json_format.Parse(self.out, kind())


class Pipe(Generic[Answer]):
    """A streaming call by `grpcurl -d @`: requests go in and responses come out while it runs."""

    def __init__(self, process: asyncio.subprocess.Process, kind: type[Answer]) -> None:
        self.responses: list[Answer] = []
        self._process = process
        self._kind = kind
        self._text = ""

    async def send(self, request: Mapping[str, object]) -> None:
        """Write one request."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        await self._process.stdin.drain()

    async def until(self, wanted: Callable[[Answer], bool]) -> Answer:
        """Read responses until one is wanted, and return it."""
        assert self._process.stdout is not None
        async with asyncio.timeout(_PATIENCE):
            while True:
                for response in self.responses:
                    if wanted(response):
                        return response
                data = await self._process.stdout.read(65536)
                assert data, f"grpcurl ended early; it printed {self.responses} {self._text}"
                self._note(data)

    async def close(self) -> int:
        """End the requests, read the rest, and return grpcurl's exit status."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        async with asyncio.timeout(_PATIENCE):
            self._note(await self._process.stdout.read())
            return await self._process.wait()

    def _note(self, data: bytes) -> None:
        documents, self._text = _documents(self._text + data.decode())
        self.responses.extend(json_format.ParseDict(document, self._kind()) for document in documents)


class Grpcurl:
    """The program, pointed at one server."""

    def __init__(self, program: Path, target: str) -> None:
        self._program = str(program)
        self._target = target

    async def run(self, *arguments: str, data: Mapping[str, object] | None = None) -> Said:
        """Run it to its end."""
        options = [] if data is None else ["-d", json.dumps(data)]
        process = await asyncio.create_subprocess_exec(
            *(self._program, "-plaintext", *options, self._target, *arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(_PATIENCE):
            out, err = await process.communicate()
        assert process.returncode is not None
        return Said(process.returncode, out.decode(), err.decode())

    @asynccontextmanager
    async def stream(self, method: str, kind: type[Answer], data: str = "@") -> AsyncIterator[Pipe[Answer]]:
        """Begin a streaming call; `@` takes the requests from the pipe."""
        process = await asyncio.create_subprocess_exec(
            *(self._program, "-plaintext", "-d", data, self._target, method),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            yield Pipe(process, kind)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


def installed() -> Path | None:
    """Return where the set-up has put grpcurl, None where there is none."""
    program = Path(sys.executable).parent / "grpcurl"
    return program if os.access(program, os.X_OK) else None


def _documents(text: str) -> tuple[list[Any], str]:
    """Return the JSON documents at the start of the text, and the text behind them."""
    found, decoder = [], json.JSONDecoder()
    text = text.lstrip()
    while text:
        try:
            document, end = decoder.raw_decode(text)
        except ValueError:
            break
        found.append(document)
        text = text[end:].lstrip()
    return found, text
