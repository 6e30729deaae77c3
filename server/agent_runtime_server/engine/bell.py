"""Wakes the one who waits; an asyncio.Event would be twenty times as large, and every stream has one."""

import asyncio


class Bell:
    """Rung or silent; one at a time may wait for it to ring."""

    __slots__ = ("_rung", "_waiting")

    def __init__(self) -> None:
        self._rung = False
        self._waiting: asyncio.Future[None] | None = None

    def ring(self) -> None:
        """Wake who waits, now or later."""
        self._rung = True
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    @property
    def waited_for(self) -> bool:
        """Whether somebody waits, and has to go on waiting."""
        return self._waiting is not None and not self._rung

    def silence(self) -> None:
        """Let the next one wait."""
        self._rung = False

    async def wait(self) -> None:
        """Wait until it rings, or not at all when it has rung."""
        if self._rung:
            return
        self._waiting = asyncio.get_running_loop().create_future()
        try:
            await self._waiting
        finally:
            self._waiting = None
