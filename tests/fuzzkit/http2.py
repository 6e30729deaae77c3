"""Hostile bytes beneath gRPC: connections whose HTTP/2 frames and gRPC prefixes are written by hand; pure."""

import gzip
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Final

from fuzzkit.damage import damaged

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _PRIORITY, _RST, _SETTINGS, _PUSH, _PING, _GOAWAY, _WINDOW, _CONTINUATION = range(10)
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
_EMPTY_MESSAGE: Final = b"\0\0\0\0\0"
_GREATEST_WINDOW: Final = b"\x7f\xff\xff\xff"

_BOMB: Final = gzip.compress(bytes(16 << 20))
_TIMEOUTS: Final = ("1n", "0S", "-1S", "99999999H", "9999999999S", "x", "", "1.5S", "10")
_ENCODINGS: Final = ("gzip", "identity", "deflate", "br", "", "gzip,gzip")
_TYPES: Final = ("application/grpc", "application/grpc+proto", "application/grpc-web", "text/html", "")
_VALUES: Final = ("", "x", "\x01", "a\tb", "caf\xe9", "\xff" * 20, "Bearer " + "x" * 3000, "%00%ff", "a,b;c=d", "0/0")
_NAMES: Final = (
    "authorization", "x-correlation-id", "x-agent-runtime-lsn", "traceparent", "tracestate", "baggage", "user-agent",
    "grpc-tags-bin", "grpc-accept-encoding", "x-bad-bin", "X-Upper", "te", ":path", "host", "grpc-status",
    "connection", "x" * 300,
)  # fmt: skip


def attack(paths: Sequence[str], message: Callable[[], bytes], random: Random) -> Iterator[bytes]:
    """Yield what one connection sends, frame by frame."""
    yield PREFACE if random.random() < 0.95 else damaged(PREFACE, random)
    yield _frame(_SETTINGS, 0, 0, _settings(random))
    stream = 1
    for _ in range(random.randrange(1, 30)):
        if random.random() < 0.4:
            yield _odd(stream, random)
            continue
        yield _frame(_HEADERS, _END_HEADERS, stream, _headers(random.choice(paths), random))
        yield _frame(_DATA, random.choice((0, _END_STREAM)), stream, _prefixed(message(), random))
        if random.random() < 0.3:
            yield _frame(_RST, 0, stream, random.choice((b"\0\0\0\x08", b"\0\0\0\0", b"\xff" * 4, b"\0")))
        stream += random.choice((2, 2, 2, 0, 1, -2, 1 << 20))


def request(path: bytes, *metadata: tuple[bytes, bytes], body: bytes = b"") -> bytes:
    """Return a whole connection with one call of a method, whose name and metadata may be any bytes."""
    return hello() + _call(1, path, metadata, body, _END_STREAM)


def hello() -> bytes:
    """Return what every connection begins with."""
    return PREFACE + _frame(_SETTINGS, 0, 0, b"")


def calls(path: bytes, count: int) -> bytes:
    """Return calls of a method, each with one empty frame and no end, from who has taken note of every limit."""
    opened = (_call(1 + 2 * number, path, (), b"", 0) for number in range(count))
    return _frame(_SETTINGS, _ACK, 0, b"") + b"".join(opened)


def _call(stream: int, path: bytes, metadata: Sequence[tuple[bytes, bytes]], body: bytes, flags: int) -> bytes:
    pairs = (
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path),
        (b":authority", b"x"),
        (b"te", b"trailers"),
    )
    block = b"".join(_literal(*pair) for pair in (*pairs, (b"content-type", b"application/grpc"), *metadata))
    data = _frame(_DATA, flags, stream, b"\0" + len(body).to_bytes(4, "big") + body)
    return _frame(_HEADERS, _END_HEADERS, stream, block) + data


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    head = len(payload).to_bytes(3, "big") + bytes((kind, flags))
    return head + (max(stream, 0) & 0x7FFFFFFF).to_bytes(4, "big") + payload


def _settings(random: Random) -> bytes:
    if random.random() < 0.7:
        return b""
    pairs = ((random.randrange(9), random.choice((0, 1, 2**14, 2**31, 2**32 - 1))) for _ in range(random.randrange(5)))
    return b"".join(name.to_bytes(2, "big") + value.to_bytes(4, "big") for name, value in pairs)


def _headers(path: str, random: Random) -> bytes:
    pairs = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "x"), ("te", "trailers")]
    pairs.append(("content-type", "application/grpc" if random.random() < 0.8 else random.choice(_TYPES)))
    if random.random() < 0.3:
        pairs.append(("grpc-timeout", random.choice(_TIMEOUTS)))
    if random.random() < 0.3:
        pairs.append(("grpc-encoding", random.choice(_ENCODINGS)))
    pairs += [(random.choice(_NAMES), random.choice(_VALUES)) for _ in range(random.choice((0, 0, 1, 3)))]
    if random.random() < 0.1:
        random.shuffle(pairs)
    if random.random() < 0.1:
        pairs.pop(random.randrange(len(pairs)))
    block = b"".join(_literal(name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs)
    return block if random.random() < 0.9 else damaged(block, random)[: 1 << 14]


def _literal(name: bytes, value: bytes) -> bytes:
    """Return a header that is added to no table."""
    return b"\0" + _size(len(name)) + name + _size(len(value)) + value


def _size(number: int) -> bytes:
    """Return a length as HPACK writes it in seven bits and more."""
    if number < 127:
        return bytes((number,))
    number -= 127
    encoded = bytearray((127,))
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    return bytes((*encoded, number))


def _prefixed(body: bytes, random: Random) -> bytes:
    """Return a message behind gRPC's flag and length, which may not fit it."""
    body = body[: (1 << 14) - 5]
    match random.randrange(8):
        case 0:
            return b"\x01" + len(body).to_bytes(4, "big") + body  # said to be compressed, and is not
        case 1:
            return b"\x01" + len(_BOMB).to_bytes(4, "big") + _BOMB[: (1 << 14) - 5]
        case 2:
            return b"\0" + random.choice((2**32 - 1, 5 << 20, len(body) + 1)).to_bytes(4, "big") + body
        case 3:
            return bytes((random.randrange(2, 256),)) + len(body).to_bytes(4, "big") + body
        case 4:
            return _EMPTY_MESSAGE * random.choice((2, 100, 3000))
        case _:
            return b"\0" + len(body).to_bytes(4, "big") + body


def _odd(stream: int, random: Random) -> bytes:
    """Return a frame that has no business there, or one of many."""
    match random.randrange(9):
        case 0:
            return _frame(_PING, 0, 0, bytes(8)) * random.choice((1, 100))
        case 1:
            return _frame(_WINDOW, 0, random.choice((0, stream)), random.choice((bytes(4), _GREATEST_WINDOW)))
        case 2:
            return _frame(_CONTINUATION, random.choice((0, _END_HEADERS)), stream, random.randbytes(20))
        case 3:
            return _frame(_GOAWAY, 0, 0, bytes(8))
        case 4:
            return _frame(_PUSH, _END_HEADERS, stream, random.randbytes(8))
        case 5:
            return _frame(_SETTINGS, random.choice((0, _ACK)), 0, _settings(random)) * random.choice((1, 200))
        case 6:
            return _frame(_PRIORITY, 0, stream, random.randbytes(5)) * random.choice((1, 100))
        case 7:
            return _frame(random.randrange(256), random.randrange(256), stream, random.randbytes(random.randrange(99)))
        case _:
            return random.randbytes(random.choice((3, 9, 200)))
