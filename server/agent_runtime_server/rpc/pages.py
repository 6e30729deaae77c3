"""Page tokens and resume tokens: opaque to clients, bound to the request they came from."""

import base64
import json
from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from typing import Final, TypeVar

from google.protobuf.message import Message

from agent_runtime import v1
from agent_runtime_server.core.errors import CallerError

MessageT = TypeVar("MessageT", bound=Message)

_MOST_BYTES: Final = 3 << 20  # of a page, below what grpc lets a client receive


def page_size(asked: int, usual: int, most: int) -> int:
    """Return how many entries a page has: 0 asks for the usual number, and more than the most is the most."""
    return min(asked, most) if asked else usual


def fingerprint(request: Message, *left_out: str) -> str:
    """Return what binds a token to the fields of its request, but for those left out."""
    bound = type(request)()
    bound.CopyFrom(request)
    for name in left_out:
        bound.ClearField(name)
    return sha256(bound.SerializeToString(deterministic=True)).hexdigest()[:16]


def make_token(bound_to: str, values: Sequence[str | int]) -> str:
    """Return a token that carries these values."""
    return base64.urlsafe_b64encode(json.dumps([bound_to, *values]).encode()).decode().rstrip("=")


def read_token(token: str, bound_to: str, kinds: Sequence[type]) -> list[str | int]:
    """Return the values of a token; raises RESUME_TOKEN_INVALID unless it is ours and of this request."""
    try:
        values = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, list) or len(values) != len(kinds) + 1 or values[0] != bound_to:
        raise _invalid()
    if not all(_is_sound(value, kind) for value, kind in zip(values[1:], kinds, strict=True)):
        raise _invalid()
    return values[1:]


def _is_sound(value: object, kind: type) -> bool:
    """Tell whether a value may go into a query; tokens are not signed, so anything may stand in them."""
    if type(value) is not kind:
        return False
    return 0 <= value < 1 << 63 if isinstance(value, int) else str(value).isascii() and str(value).isprintable()


def read_place(token: str, bound_to: str) -> tuple[datetime, str] | None:
    """Return the (create time, id) a list goes on from; None at its beginning."""
    if not token:
        return None
    moment, last_id = read_token(token, bound_to, (str, str))
    try:
        created = datetime.fromisoformat(str(moment))
    except ValueError as error:
        raise _invalid() from error
    if created.tzinfo is None:
        raise _invalid()
    return created, str(last_id)


def fitting(found: Sequence[MessageT]) -> Sequence[MessageT]:
    """Return as many messages as a response can carry, but one at least while there are any."""
    size = 0
    for number, message in enumerate(found):
        size += message.ByteSize()
        if number and size > _MOST_BYTES:
            return found[:number]
    return found


def _invalid() -> CallerError:
    return CallerError(
        v1.ERROR_REASON_RESUME_TOKEN_INVALID,
        "the token is malformed or belongs to a request with other fields; begin again without it",
    )
