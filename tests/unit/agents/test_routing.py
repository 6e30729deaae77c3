import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_runtime import v1
from agent_runtime_server.agents.registry import Registry, builtin
from agent_runtime_server.agents.routing import Route, route
from agent_runtime_server.agents.routing.parse import Choice, parse
from agent_runtime_server.core.errors import ModelRejected, ModelUnavailable
from agent_runtime_server.core.transcript import Answered, Called, Entry, Said
from agent_runtime_server.llm.base import ModelAnswer, ModelRequest, Sink, Tell

IDS = ["coder", "architect", "debug", "ask"]
HIGH, MEDIUM, LOW = v1.ROUTING_CONFIDENCE_HIGH, v1.ROUTING_CONFIDENCE_MEDIUM, v1.ROUTING_CONFIDENCE_LOW
UNKNOWN = v1.ROUTING_CONFIDENCE_UNSPECIFIED
PLAIN = '{"agent": "coder", "confidence": "high", "reasoning": "code is wanted"}'


class Answering:
    def __init__(self, act: Callable[[], Awaitable[str]]) -> None:
        self.requests: list[ModelRequest] = []
        self._act = act

    async def answer(self, request: ModelRequest, sink: Sink | None = None, tell: Tell | None = None) -> ModelAnswer:
        self.requests.append(request)
        usage = v1.Usage(input_tokens=7, model_calls=1)
        return ModelAnswer(await self._act(), "", (), usage, "stop", "m")


def saying(text: str) -> Answering:
    async def act() -> str:
        return text

    return Answering(act)


def failing(error: Exception) -> Answering:
    async def act() -> str:
        raise error

    return Answering(act)


def hanging() -> Answering:
    async def act() -> str:
        await asyncio.Event().wait()
        return ""

    return Answering(act)


async def routed(model: Answering, text: str = "implement login", transcript: list[Entry] | None = None) -> Route:
    return await route(model, builtin(), transcript or [], text, model_name="m", deadline_seconds=0.05)


async def test_the_model_chooses() -> None:
    assert await routed(saying(PLAIN)) == Route(
        agent_id="coder",
        confidence=HIGH,
        probability=-1,
        source=v1.ROUTING_SOURCE_MODEL,
        reasoning="code is wanted",
        usage=v1.Usage(input_tokens=7, model_calls=1),
    )


async def test_the_request_names_each_agent_and_carries_the_text_word_for_word() -> None:
    model = saying(PLAIN)
    text = "  do {it}\n\n"
    await routed(model, text)
    (request,) = model.requests
    assert (request.temperature, request.tools, request.model) == (0, (), "m")
    system, user = request.messages
    assert user == {"role": "user", "content": text}
    assert system["role"] == "system"
    for agent in builtin().all():
        assert (f"- {agent.agent_id}: {agent.description}" in str(system["content"])) is agent.routable


async def test_what_happened_before_is_told_but_not_the_message_twice() -> None:
    model = saying(PLAIN)
    result = v1.ToolResult(status=v1.ToolResult.STATUS_FAILED, error_message="no such file")
    call = Called(v1.ToolCall(call_id="c", tool_name="read_file"), result)
    transcript: list[Entry] = [
        Said(v1.UserMessage(parts=[v1.Part(text="look at a.py")])),
        Answered(v1.AssistantMessage(agent_id="debug", parts=[v1.Part(text="I tried")]), [call]),
        Said(v1.UserMessage(parts=[v1.Part(text="why?")])),
    ]
    await routed(model, "why?", transcript)
    _, before, last = model.requests[0].messages
    assert last["content"] == "why?"
    lines = str(before["content"]).split("\n")
    assert lines[1:] == [
        "user: look at a.py",
        "debug: I tried",
        "debug called read_file failed: The call failed. no such file",
    ]


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (failing(ModelUnavailable("down")), "the model failed (MODEL_UNAVAILABLE)"),
        (failing(ModelRejected("no")), "the model failed (MODEL_REJECTED)"),
        (failing(TimeoutError()), "did not answer within"),
        (hanging(), "the model did not answer within 0.05 s"),
        (saying(""), "held no choice"),
        (saying("I think coder"), "held no choice"),
        (saying('{"agent": "coder", "conf'), "held no choice"),
        (saying('{"agent": "pirate"}'), "unknown agent ('pirate')"),
        (saying('{"agent": "orchestrator"}'), "unknown agent ('orchestrator')"),
    ],
)
async def test_words_decide_when_the_model_is_of_no_use(model: Answering, why: str) -> None:
    found = await routed(model)
    assert found.agent_id == "coder"
    assert found.source == v1.ROUTING_SOURCE_FALLBACK
    assert found.probability == -1
    assert why in found.reasoning


async def test_an_undecided_message_goes_to_ask_and_never_to_coder() -> None:
    found = await routed(failing(ModelUnavailable("down")), "hmm")
    assert (found.agent_id, found.confidence) == ("ask", LOW)


async def test_cancelling_passes_through() -> None:
    asked = asyncio.Event()

    async def act() -> str:
        asked.set()
        await asyncio.Event().wait()
        return ""

    async with asyncio.TaskGroup() as group:
        task = group.create_task(route(Answering(act), builtin(), [], "x", model_name="m", deadline_seconds=60))
        await asked.wait()
        task.cancel()
    assert task.cancelled()


async def test_a_registry_without_the_usual_agents_still_routes() -> None:
    only = Registry([builtin().get("architect")])
    found = await route(saying("?"), only, [], "implement login", model_name="m")
    assert found.agent_id == "architect"


@pytest.mark.parametrize(
    "answer",
    [
        PLAIN,
        f"```json\n{PLAIN}\n```",
        f"Sure! Here it is:\n\n{PLAIN}\n\nHope that helps {{:-}}",
        '{"agent": "Coder", "confidence": "High", "reasoning": "code is wanted", "extra": {"agent": "ask"}}',
        '{"agent": "the coder agent", "confidence": " HIGH ", "reasoning": "code is wanted"}',
        '{"result": {"agent": "coder", "confidence": "high", "reasoning": "code is wanted"}}',
        f'For example {{"agent": "..."}} or {{"agent": "ask"}}. So: {PLAIN}',
        f"{{not json}} {PLAIN}",
        f"[{PLAIN}]",
        f"<think>{{ hm {{</think>{PLAIN}",
    ],
)
def test_a_choice_is_found_however_it_is_wrapped(answer: str) -> None:
    assert parse(answer, IDS) == Choice("coder", HIGH, -1, "code is wanted")


@pytest.mark.parametrize(
    ("confidence", "rated"),
    [
        ("low", (LOW, -1)),
        ("very high", (HIGH, -1)),
        (0.95, (HIGH, 0.95)),
        (1, (HIGH, 1)),
        (0.8, (HIGH, 0.8)),
        (0.5, (MEDIUM, 0.5)),
        (0, (LOW, 0)),
        ("0.3", (LOW, 0.3)),
        ("85%", (HIGH, 0.85)),
        (85, (HIGH, 0.85)),
        (True, (UNKNOWN, -1)),
        (None, (UNKNOWN, -1)),
        (-1, (UNKNOWN, -1)),
        (1000, (UNKNOWN, -1)),
        (float("nan"), (UNKNOWN, -1)),
        ("certain", (UNKNOWN, -1)),
        ({"a": 1}, (UNKNOWN, -1)),
    ],
)
def test_confidence_is_a_word_or_a_number(confidence: object, rated: tuple[int, float]) -> None:
    choice = parse(json.dumps({"agent": "ask", "confidence": confidence}), IDS)
    assert isinstance(choice, Choice)
    assert (choice.confidence, choice.probability) == rated


@pytest.mark.parametrize("agent", ["", "coder or debug", "codersaurus", "кодер", "\ud800", None, 3, ["coder"]])
def test_what_names_no_one_agent_is_no_choice(agent: object) -> None:
    assert "unknown agent" in str(parse(json.dumps({"agent": agent}), IDS))


@pytest.mark.parametrize("answer", ["{" * 100_000, '{"a":' * 50_000, '{"agent": ' * 5_000, "[" * 100_000 + "{"])
def test_hostile_answers_are_given_up(answer: str) -> None:
    assert isinstance(parse(answer, IDS), str)


@given(st.text(), st.text(), st.sampled_from(IDS))
def test_text_around_a_choice_without_braces_changes_nothing(before: str, after: str, agent: str) -> None:
    around = [part.replace("{", "").replace("}", "") for part in (before, after)]
    answer = around[0] + json.dumps({"agent": agent}) + around[1]
    assert parse(answer, IDS) == Choice(agent, UNKNOWN, -1, "")


@given(st.text() | st.text('{}[]":,agentcoder \\u0d8', max_size=80))
def test_no_answer_raises(answer: str) -> None:
    found = parse(answer, IDS)
    assert isinstance(found, str) or found.agent_id in IDS


@given(st.text())
def test_reasoning_fits_into_the_contract(text: str) -> None:
    choice = parse(json.dumps({"agent": "ask", "reasoning": text + "\ud800"}), IDS)
    assert isinstance(choice, Choice)
    v1.RoutingDecided(reasoning=choice.reasoning)
