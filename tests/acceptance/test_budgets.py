"""A server with prices and budgets: what turns cost is told, asked for in between, and bounded."""

import asyncio
import json
import socket
import urllib.request
from collections.abc import AsyncIterator

import pytest

from agent_runtime import v1
from agent_runtime_server.mockllm.server import MockServer
from servicekit.model import Rule, says
from servicekit.process import serving
from servicekit.service import Service

SETTINGS = {
    "AGENT_RUNTIME_LLM_PRICES": json.dumps({"*": {"input": 2, "output": 10}}),
    "AGENT_RUNTIME_TURN_COST": "0.006",
    "AGENT_RUNTIME_BUDGET_ASK_PERCENT": "50",
    "AGENT_RUNTIME_USER_DAY_TOKENS": "2000",
    "AGENT_RUNTIME_TENANT_DAY_SECONDS": "86400",
}
USAGE = {"prompt_tokens": 500, "completion_tokens": 100, "total_tokens": 600}  # which cost 2000 millionths


@pytest.fixture(scope="module")
def metrics_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@pytest.fixture(scope="module")
async def bounded(one_model: MockServer, metrics_port: int) -> AsyncIterator[Service]:
    settings = SETTINGS | {"AGENT_RUNTIME_LLM_BASE_URL": one_model.base_url}
    async with serving(settings, "--metrics-port", str(metrics_port)) as server:
        service = Service(server.target)
        async with service.channel:
            yield service


def reads(path: str) -> Rule:
    return {
        "match": {"times": 1},
        "answer": {"tool_calls": [{"name": "read_file", "arguments": {"path": path}}], "usage": USAGE},
    }


async def test_a_turn_costs_what_its_user_agrees_to_and_no_more(
    bounded: Service, model: MockServer, metrics_port: int
) -> None:
    model.use([*(reads(f"{number}.py") for number in range(9)), says("never")])
    session_id = await bounded.new_session()
    async with bounded.chat(session_id) as chat:
        await chat.say("look")
        for number in range(2):
            await chat.result((await chat.calls(number + 1))[-1].call_id)
        question = (await chat.event("question_asked")).question_asked.question
        assert question.text == "This turn has used 0.0040 of 0.0060 that it may cost. Go on?"
        await chat.say("Go on", question_id=question.question_id, option_ids=["extend"])
        await chat.result((await chat.calls(3))[-1].call_id)
        finished = await chat.finished()
    assert (finished.state, finished.error.reason) == (v1.TURN_STATE_FAILED, "TURN_BUDGET_EXCEEDED")
    assert dict(finished.error.metadata) == {"budget": "turn.cost", "limit": "6000", "used": "6000"}
    session = (await bounded.sessions.GetSession(v1.GetSessionRequest(session_id=session_id))).session
    assert (session.usage.input_tokens, session.usage.model_calls, session.usage.cost_micros) == (1500, 3, 6000)
    assert session.usage.tool_calls == 3
    assert session.usage.worked_millis > 0
    metrics = await asyncio.to_thread(_metrics, metrics_port)
    assert 'agent_runtime_llm_tokens_total{kind="output",model="default"} 300.0' in metrics
    assert 'agent_runtime_llm_cost_total{model="default"} 0.006' in metrics
    assert 'agent_runtime_tenant_llm_tokens_total{tenant="local"} 1800.0' in metrics
    assert 'agent_runtime_tenant_llm_cost_total{tenant="local"} 0.006' in metrics
    assert 'agent_runtime_tenant_tool_calls_total{tenant="local"} 3.0' in metrics
    assert 'agent_runtime_tenant_turn_seconds_total{tenant="local"}' in metrics


async def test_a_day_has_its_budget_and_tells_what_was_spent(bounded: Service, model: MockServer) -> None:
    model.use([{"answer": {"text": "done", "usage": USAGE}}])
    async with bounded.chat(await bounded.new_session()) as chat:
        ends: list[v1.TurnFinished] = []
        while not ends or ends[-1].state == v1.TURN_STATE_COMPLETED:
            await chat.say("go on")
            ends.append(await chat.finished(len(ends)))
        assert ends[-1].error.reason == "TURN_BUDGET_EXCEEDED"
        assert ends[-1].error.metadata["budget"] == "user.day.tokens"
        async with asyncio.timeout(30):
            told = v1.GetUsageResponse()
            while told.total.input_tokens < 2000:
                await asyncio.sleep(0.2)  # the server counts once a second
                told = await bounded.system.GetUsage(v1.GetUsageRequest())
    assert [day.subject for day in told.days] == ["local"]
    assert told.total.cost_micros == told.total.model_calls * 2000
    assert told.total.worked_millis > 0


def _metrics(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        text: str = answer.read().decode()
    return text
