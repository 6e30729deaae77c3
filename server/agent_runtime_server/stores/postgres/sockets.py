"""How a connection notices that the other side is gone without a word."""

import socket
from typing import Final

import asyncpg

_IDLE_SECONDS: Final = 10  # silence after which the peer is asked whether it lives
_INTERVAL_SECONDS: Final = 3
_PROBES: Final = 3
_UNANSWERED_MS: Final = 10_000  # the longest wait for what was sent to be received

_OURS: Final = {
    "TCP_KEEPIDLE": _IDLE_SECONDS,
    "TCP_KEEPINTVL": _INTERVAL_SECONDS,
    "TCP_KEEPCNT": _PROBES,
    "TCP_USER_TIMEOUT": _UNANSWERED_MS,
}

SERVER_SIDE: Final = {
    "tcp_keepalives_idle": str(_IDLE_SECONDS),
    "tcp_keepalives_interval": str(_INTERVAL_SECONDS),
    "tcp_keepalives_count": str(_PROBES),
    "tcp_user_timeout": str(_UNANSWERED_MS),
}
"""Settings of a connection by which Postgres notices the same of us; it ignores them on a unix socket."""


async def notice_dead_peers(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Have the kernel end a TCP connection whose peer does not answer any more."""
    # asyncpg has no way to say this when it connects, and none but this to reach the socket.
    found = connection._transport.get_extra_info("socket")  # type: ignore[attr-defined]  # noqa: SLF001
    if found.family not in (socket.AF_INET, socket.AF_INET6):
        return
    found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _OURS.items():
        if hasattr(socket, name):  # not every system has every one
            found.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
