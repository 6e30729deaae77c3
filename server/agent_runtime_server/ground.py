"""What a server stands on: a place, databases and a model, of its own where the settings name none."""

from contextlib import AsyncExitStack
from dataclasses import dataclass

import structlog

from agent_runtime_server.core.settings import Settings
from agent_runtime_server.embedded import embedded

_log = structlog.get_logger(__name__)

_MOCK_DELAY_MS = 8


@dataclass(frozen=True, slots=True)
class Place:
    """Where to serve, and among whom."""

    host: str
    port: int
    metrics_port: int
    is_worker: bool = False
    """Whether other workers of one parent listen on the same port; else a port that is taken is refused."""
    mock_url: str | None = None
    """The mock model that the workers of one parent share, where no model is named."""


async def store_urls(stack: AsyncExitStack, settings: Settings) -> tuple[str, str]:
    """Return the URLs of Postgres and Redis; embedded ones run until the stack is closed."""
    database_url, redis_url = settings.database_url, settings.redis_url
    if database_url is not None and redis_url is not None:
        return database_url, redis_url
    servers = await stack.enter_async_context(
        embedded(settings.state_dir, want_postgres=database_url is None, want_redis=redis_url is None)
    )
    _log.info("embedded servers run", joined=servers.joined, holder_pid=servers.holder_pid)
    return database_url or servers.database_url, redis_url or servers.redis_url


async def mock_model_url(stack: AsyncExitStack) -> str:
    """Return the URL of a mock model that runs until the stack is closed."""
    from agent_runtime_server.mockllm.server import mock_server  # which takes long to load

    mock = await stack.enter_async_context(mock_server(delay_ms=_MOCK_DELAY_MS))
    return mock.base_url
