"""What libraries log is passed on, but for what says nothing."""

import asyncio
import gc
import logging
from collections.abc import Callable, Coroutine

import pytest

from agent_runtime_server.telemetry.logs import _is_news


class Connection:
    """As asyncpg's: it takes leave by what may have been cut."""

    async def close(self) -> None:
        raise BrokenPipeError

    async def query(self) -> None:
        raise BrokenPipeError


@pytest.mark.parametrize(("work", "told"), [(Connection.close, 0), (Connection.query, 1)])
async def test_only_a_farewell_on_a_cut_connection_is_kept_out(
    work: Callable[[Connection], Coroutine[object, object, None]], told: int, caplog: pytest.LogCaptureFixture
) -> None:
    logger = logging.getLogger("asyncio")
    logger.addFilter(_is_news)
    try:
        await asyncio.wait({asyncio.get_running_loop().create_task(work(Connection()))})
        gc.collect()  # only then asyncio says that nobody wanted to know
    finally:
        logger.removeFilter(_is_news)
    assert len(caplog.records) == told
