"""Connections to the server, replaced when they are no longer trusted."""

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


class Channels:
    """Lends the current channel, and closes a replaced one once nobody uses it."""

    def __init__(self, target: str, credentials: grpc.ChannelCredentials | None) -> None:
        self._target = target
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
        if self._credentials is None:
            return grpc.aio.insecure_channel(self._target, options=_OPTIONS)
        return grpc.aio.secure_channel(self._target, self._credentials, options=_OPTIONS)

    async def _give_back(self, channel: grpc.aio.Channel) -> None:
        left = self._users.get(channel, 1) - 1
        if left:
            self._users[channel] = left
            return
        self._users.pop(channel, None)
        if channel is not self._current and not self._closed:
            await channel.close()
