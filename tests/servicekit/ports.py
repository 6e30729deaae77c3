"""Ports for servers that come back at the same place."""

import random
import socket
from typing import Final

_NEVER_EPHEMERAL: Final = range(12_000, 32_000)
_TRIES: Final = 100


def free_port() -> int:
    """Return a port that nobody listens on, and that the system gives to no connection while its server is away."""
    for port in random.sample(_NEVER_EPHEMERAL, _TRIES):
        try:
            with socket.create_server(("127.0.0.1", port)):
                return port
        except OSError:
            continue
    raise OSError(f"none of {_TRIES} ports is free")
