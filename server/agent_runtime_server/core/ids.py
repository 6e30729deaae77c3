"""Ids made here: a short prefix that says the kind, and a time-ordered random rest."""

import secrets
import time
from typing import Final, Protocol

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32, lower case
_PAIRS: Final = tuple(first + second for first in _ALPHABET for second in _ALPHABET)
_SHIFTS: Final = range(120, -1, -10)


class IdFactory(Protocol):
    """Makes a new id of the kind the prefix names."""

    def __call__(self, prefix: str) -> str:
        """Return a new id; at most 64 characters of `[A-Za-z0-9._:-]`."""
        ...


def new_id(prefix: str) -> str:
    """Return `prefix-` and 26 characters that sort by time and cannot be guessed."""
    number = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    return f"{prefix}-" + "".join([_PAIRS[number >> shift & 1023] for shift in _SHIFTS])
