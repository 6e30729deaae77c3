"""A real server in front of a model that tests write the script for."""

from collections.abc import AsyncIterator

import pytest

from agent_runtime_server.mockllm.server import MockServer, mock_server
from servicekit.process import ServerProcess, serving
from servicekit.service import Service


@pytest.fixture(scope="session")
async def one_model() -> AsyncIterator[MockServer]:
    async with mock_server() as model:
        yield model


@pytest.fixture(autouse=True)
async def model(one_model: MockServer) -> MockServer:
    """The model of `server`, with no script and an empty journal: none has that of the test before."""
    one_model.use([])
    one_model.journal.clear()
    return one_model


@pytest.fixture(scope="session")
async def server(one_model: MockServer) -> AsyncIterator[ServerProcess]:
    """A server that all tests of a worker share."""
    async with serving({"AGENT_RUNTIME_LLM_BASE_URL": one_model.base_url}) as server:
        yield server


@pytest.fixture(scope="session")
async def service(server: ServerProcess) -> AsyncIterator[Service]:
    service = Service(server.target)
    async with service.channel:
        yield service
