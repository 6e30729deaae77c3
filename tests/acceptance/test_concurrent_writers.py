"""Eight clients write to one session at once, over three replicas and with every frame sent more than once."""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from typing import Final

import pytest

from agent_runtime import v1
from agent_runtime_server.embedded import embedded, scratch_state_dir
from agent_runtime_server.mockllm.server import MockServer, mock_server
from enginekit.ready_made import begin_with_postgres_data
from enginekit.rules import log_problems
from killkit.sequential import order_problems, replay_problems
from killkit.writers import Writer, rules
from servicekit.process import serving
from servicekit.service import Service

SEED: Final = int(os.environ.get("AGENT_RUNTIME_TEST_SEED", "11"))
WRITERS: Final = 8
FRAMES: Final = 25
ROUNDS: Final = 8
KINDS: Final = {"user_message", "tool_result", "approval_decision", "cancel_turn"}


@pytest.fixture
async def patient_model() -> AsyncIterator[MockServer]:
    async with mock_server(rules(0.004)) as model:
        yield model


@pytest.fixture
async def services(patient_model: MockServer) -> AsyncIterator[list[Service]]:
    """Three replicas on the same stores."""
    with scratch_state_dir() as state_dir:
        begin_with_postgres_data(state_dir)
        async with embedded(state_dir) as stores, AsyncExitStack() as stack:
            settings = {
                "AGENT_RUNTIME_DATABASE_URL": stores.database_url,
                "AGENT_RUNTIME_REDIS_URL": stores.redis_url,
                "AGENT_RUNTIME_LLM_BASE_URL": patient_model.base_url,
                "AGENT_RUNTIME_DRAIN_SECONDS": "0",
            }
            servers = await asyncio.gather(*(stack.enter_async_context(serving(settings)) for _ in range(3)))
            made = [Service(server.target) for server in servers]
            for service in made:
                await stack.enter_async_context(service.channel)
            yield made


async def test_the_log_is_one_order_of_what_all_have_written(services: list[Service]) -> None:
    session_id = await services[0].new_session()
    async with services[0].chat(session_id, client_id="executor") as executor:
        await executor.frame("caught_up")
        writers = [Writer(f"writer{n}", session_id, services, SEED + n) for n in range(WRITERS)]
        for _ in range(ROUNDS):  # which of them come in time is chance: on until some of each kind did
            await asyncio.gather(*(writer.write(FRAMES) for writer in writers))
            if accepted_kinds(writers) == KINDS:
                break
        last = v1.CancelTurn(drop_queue=True, reason="enough")
        await executor.write(v1.ChatRequest(frame_id="last", cancel_turn=last))
        await executor.ack("last")
    log = await services[1].log(session_id)
    told = [one for writer in writers for one in writer.told]
    assert [*log_problems(log)] == []
    assert [p for p in order_problems(told, log) if p != "last is nobody's"] == []
    assert [*replay_problems(log)] == []
    accepted = [one for one in told if one.seqs]
    assert accepted_kinds(writers) == KINDS
    repeated = [one for one in accepted if any(a.outcome == v1.FrameAck.OUTCOME_DUPLICATE for _, a in one.answers)]
    assert len(accepted) > WRITERS * FRAMES / 4
    assert len(repeated) > len(accepted) / 4


def accepted_kinds(writers: Sequence[Writer]) -> set[str | None]:
    return {one.frame.WhichOneof("frame") for writer in writers for one in writer.told if one.seqs}
