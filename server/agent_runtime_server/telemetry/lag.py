"""How late the event loop is: everything in this process waits at least for that."""

import asyncio
from collections.abc import Callable

_LOOK_SECONDS = 0.25


async def watch_lag(*tell: Callable[[float], None]) -> None:
    """Tell everybody, again and again until cancelled, by how many seconds a timer came later than it was set to."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + _LOOK_SECONDS
        await asyncio.sleep(_LOOK_SECONDS)
        late = max(0.0, loop.time() - due)
        for told in tell:
            told(late)
