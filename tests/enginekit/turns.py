"""Letting the event loop run until nothing moves, and time that only moves when told."""

import asyncio
from collections.abc import Callable


async def turns(count: int = 30) -> None:
    """Let every task that can go on do so; nothing here waits for real time."""
    for _ in range(count):
        await asyncio.sleep(0)


class DialLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is a dial."""

    now = 0.0

    def time(self) -> float:
        """Return the time on the dial."""
        return self.now


async def until_true(condition: Callable[[], object]) -> None:
    """Let the others go on until the condition holds."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - of what is waited for here nobody tells
            await asyncio.sleep(0)
