"""How far the log of the database is known to a caller, so that a read replica which is not as far is not asked.

The answer to what changes something says where the log stood behind it: a FrameAck in its `lsn`, a unary call in
trailing metadata. A caller that sends the highest one it was told with a list or a page reads what it has written.
"""

import re
from typing import Final

from agent_runtime_server.core.errors import invalid
from agent_runtime_server.rpc.service import Call

LSN: Final = "x-agent-runtime-lsn"
"""The metadata in both directions."""

_FORM: Final = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})")


def as_text(position: int) -> str:
    """Return a position as Postgres writes it; nothing for 0."""
    return f"{position >> 32:X}/{position & 0xFFFFFFFF:X}" if position else ""


def echoed(call: Call) -> int:
    """Return the position that a caller was told, 0 when it does not say; raises VALIDATION_FAILED."""
    given = call.metadata.get(LSN, "")
    if not given:
        return 0
    found = _FORM.fullmatch(given)
    if found is None:
        raise invalid(f"metadata.{LSN}", "lsn.form", "is no position: send back what an answer said, such as 0/16B3748")
    return int(found[1], 16) << 32 | int(found[2], 16)
