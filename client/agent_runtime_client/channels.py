"""Connections to the server, replaced when they are no longer trusted.

Several servers are one service. Their addresses stand in one target, `ipv4:10.0.0.1:50051,10.0.0.2:50051` (or
`ipv6:`), or behind one DNS name, `dns:///agents.example:50051`. One that cannot be reached is passed over, and
whoever comes back after the end of a stream begins at another one: the next of the list, any behind the name.
"""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import grpc

from agent_runtime_client.errors import ChatClosed

_MAX_MESSAGE: Final = 4 * 1024 * 1024
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", _MAX_MESSAGE),
    ("grpc.max_send_message_length", _MAX_MESSAGE),
    # Servers refuse pings more often than every 10 s; 30 s also keeps address translators awake.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # Without a pool of its own a new channel would be given the old, perhaps dead, connection.
    ("grpc.use_local_subchannel_pool", 1),
    # Reconnecting is the business of this library, with the contract's delays.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.enable_retries", 0),
)
_SHUFFLED: Final = ("grpc.service_config", '{"loadBalancingConfig": [{"pick_first": {"shuffleAddressList": true}}]}')
_LISTS: Final = ("ipv4:", "ipv6:")


class Channels:
    """Lends the current channel, and closes a replaced one once nobody uses it."""

    def __init__(self, target: str, credentials: grpc.ChannelCredentials | None) -> None:
        self._targets = rotations(target)
        self._opened = random.randrange(len(self._targets))  # noqa: S311 - so that clients spread
        self._credentials = credentials
        self._current: grpc.aio.Channel | None = None
        self._users: dict[grpc.aio.Channel, int] = {}
        self._closed = False

    @asynccontextmanager
    async def lend(self) -> AsyncIterator[grpc.aio.Channel]:
        """Lend the channel for one RPC."""
        if self._closed:
            raise ChatClosed("the client is closed")
        channel = self._current = self._current or self._open()
        self._users[channel] = self._users.get(channel, 0) + 1
        try:
            yield channel
        finally:
            await self._give_back(channel)

    def distrust(self, channel: grpc.aio.Channel) -> None:
        """Make the next borrower get a new connection; users of the old one keep it."""
        if self._current is channel:
            self._current = None

    async def aclose(self) -> None:
        """Close all channels."""
        self._closed = True
        channels = {*self._users, *([self._current] if self._current else [])}
        self._current = None
        self._users.clear()
        for channel in channels:
            await channel.close()

    def _open(self) -> grpc.aio.Channel:
        target = self._targets[self._opened % len(self._targets)]
        self._opened += 1
        options = _OPTIONS if len(self._targets) > 1 else (*_OPTIONS, _SHUFFLED)
        if self._credentials is None:
            return grpc.aio.insecure_channel(target, options=options)
        return grpc.aio.secure_channel(target, self._credentials, options=options)

    async def _give_back(self, channel: grpc.aio.Channel) -> None:
        left = self._users.get(channel, 1) - 1
        if left:
            self._users[channel] = left
            return
        self._users.pop(channel, None)
        if channel is not self._current and not self._closed:
            await channel.close()


def rotations(target: str) -> list[str]:
    """Return a list of addresses beginning at each of them in turn, and anything else as it is."""
    scheme = next((scheme for scheme in _LISTS if target.startswith(scheme)), None)
    if scheme is None:
        return [target]
    addresses = [address for address in target.removeprefix(scheme).split(",") if address]
    return [scheme + ",".join(addresses[first:] + addresses[:first]) for first in range(len(addresses))] or [target]
