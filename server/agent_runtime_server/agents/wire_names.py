"""Tool names as model endpoints take them: letters, digits, `_` and `-`, at most 64."""

import hashlib
import re
from typing import Final

_TAKEN: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NOT_TAKEN: Final = re.compile(r"[^A-Za-z0-9_-]")


def wire_name(tool_name: str) -> str:
    """Return the name to send; another name, made unique by a digest, where this one would be refused."""
    if _TAKEN.fullmatch(tool_name):
        return tool_name
    digest = hashlib.sha256(tool_name.encode(errors="replace")).hexdigest()[:8]
    return f"{_NOT_TAKEN.sub('_', tool_name)[:55]}_{digest}"
