"""What can be done to the bytes of a message; pure."""

from collections.abc import Callable, Sequence
from random import Random
from typing import Final

_ENDLESS: Final = b"\xff" * 11
_HUGE: Final = b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"
_LENGTHS: Final = (b"\x7f", b"\xff\xff\x03", b"\xff\xff\xff\xff\x07", _HUGE)


def _cut(data: bytes, random: Random) -> bytes:
    return data[: random.randrange(len(data) + 1)]


def _flip(data: bytes, random: Random) -> bytes:
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 8))):
        if changed:
            changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _noise(data: bytes, random: Random) -> bytes:
    place = random.randrange(len(data) + 1)
    return data[:place] + random.randbytes(random.choice((1, 2, 9, 300))) + data[place:]


def _slice(data: bytes, random: Random) -> tuple[int, int]:
    begin = random.randrange(len(data) + 1)
    return begin, min(len(data), begin + random.choice((1, 3, 20, 500)))


def _twice(data: bytes, random: Random) -> bytes:
    begin, end = _slice(data, random)
    return data[:end] + data[begin:end] * random.choice((1, 2, 50)) + data[end:]


def _without(data: bytes, random: Random) -> bytes:
    begin, end = _slice(data, random)
    return data[:begin] + data[end:]


def _doubled(data: bytes, random: Random) -> bytes:
    """Return two messages in one, which protobuf merges: every field twice, members of a oneof too."""
    return data + data


def _other_type(data: bytes, random: Random) -> bytes:
    """Give the first field another wire type."""
    return bytes([data[0] & 0xF8 | random.randrange(8)]) + data[1:] if data else b"\x0f"


def _other_field(data: bytes, random: Random) -> bytes:
    """Append a field of some number and type whose value is of any shape."""
    number, kind = random.choice((*range(1, 20), 99, 2047, 18_999, 19_000)), random.randrange(8)
    value = random.choice((b"", b"\0", b"\x01", b"\x03abc", _ENDLESS, _HUGE, b"\x80" * 9 + b"\0", random.randbytes(8)))
    return data + varint(number << 3 | kind) + value


def _length(data: bytes, random: Random) -> bytes:
    """Append a field that claims to be longer than the message."""
    return data + varint(random.randrange(1, 20) << 3 | 2) + random.choice(_LENGTHS) + b"abc"


def _nested(data: bytes, random: Random) -> bytes:
    """Put the message into a field of itself, again and again."""
    tag = varint(random.randrange(1, 20) << 3 | 2)
    for _ in range(random.choice((2, 30, 99, 101, 400))):
        data = tag + varint(len(data)) + data
    return data


def _groups(data: bytes, random: Random) -> bytes:
    """Open groups that do not end, or end at once."""
    number = random.randrange(1, 20) << 3
    many = random.choice((1, 99, 101, 20_000))
    return data + varint(number | 3) * many + (varint(number | 4) * many if random.random() < 0.5 else b"")


def _unknown(data: bytes, random: Random) -> bytes:
    """Append very many fields that nobody knows."""
    return data + (varint(random.choice((100, 5000)) << 3) + b"\x01") * random.choice((1, 100, 20_000))


def _no_utf8(data: bytes, random: Random) -> bytes:
    bad = random.choice((b"\xff\xfe", b"\xed\xa0\x80", b"\xc0\x80", b"\xf5\x80\x80\x80", b"\xe2\x82"))
    return data + varint(random.randrange(1, 6) << 3 | 2) + varint(len(bad)) + bad


_ALL: Final[Sequence[Callable[[bytes, Random], bytes]]] = (
    _cut, _flip, _flip, _noise, _twice, _without, _doubled, _other_type, _other_field, _length, _nested, _groups,
    _unknown, _no_utf8,
)  # fmt: skip
MOST_BYTES: Final = 3 << 19


def damaged(data: bytes, random: Random) -> bytes:
    """Return the bytes after one to three accidents."""
    for _ in range(random.choice((1, 1, 2, 3))):
        data = random.choice(_ALL)(data, random)
    return data[: MOST_BYTES + 1]


def varint(value: int) -> bytes:
    """Return a number as protobuf writes it."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*encoded, value))
