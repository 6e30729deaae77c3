from collections.abc import Sequence
from dataclasses import replace

from agent_runtime import v1
from agent_runtime_server.agents.registry import builtin
from agent_runtime_server.agents.step import offered_to, take_step
from agent_runtime_server.agents.wire_names import wire_name
from agent_runtime_server.core.transcript import Said
from agent_runtime_server.llm.base import Delta, ModelAnswer, ModelRequest, RequestedCall, Sink, Tell

AGENTS = builtin()
ANSWER = ModelAnswer(text="hi", reasoning="", calls=(), usage=v1.Usage(), finish_reason="stop", model="m")
HELLO = Said(v1.UserMessage(parts=[v1.Part(text="hello")]))


class Scripted:
    def __init__(self, answer: ModelAnswer) -> None:
        self.requests: list[ModelRequest] = []
        self._answer = answer

    async def answer(self, request: ModelRequest, sink: Sink | None = None, tell: Tell | None = None) -> ModelAnswer:
        self.requests.append(request)
        if sink is not None:
            sink([])
        return self._answer


async def test_a_step_asks_the_model_once_with_the_agents_tools() -> None:
    model, seen = Scripted(ANSWER), list[Sequence[Delta]]()
    coder = AGENTS.get("coder")
    specs = offered_to(coder, [v1.ToolSpec(name="read_file")])
    answer = await take_step(model, coder, [HELLO], specs.values(), default_model="d", sink=seen.append)
    (request,) = model.requests
    assert answer == ANSWER
    assert seen == [[]]
    assert request.model == "d"
    assert request.messages[-1] == {"role": "user", "content": "hello"}
    assert len(request.tools) == 4


async def test_an_agents_own_model_is_used() -> None:
    model = Scripted(ANSWER)
    await take_step(model, replace(AGENTS.get("ask"), model="big"), [HELLO], (), default_model="d", sink=None)
    assert model.requests[0].model == "big"


async def test_calls_come_back_under_the_names_the_client_knows() -> None:
    calls = (RequestedCall(wire_name("git.log"), "{}"), RequestedCall("unknown", "{}"))
    model = Scripted(replace(ANSWER, calls=calls))
    specs = [v1.ToolSpec(name="git.log")]
    answer = await take_step(model, AGENTS.get("coder"), [HELLO], specs, default_model="d", sink=None)
    assert [call.name for call in answer.calls] == ["git.log", "unknown"]
