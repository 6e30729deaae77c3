"""One step of an agent: one model call, whose answer is returned with the calls it wants."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from agent_runtime import v1
from agent_runtime_server.agents.definition import Agent
from agent_runtime_server.agents.prompt import messages, tool_definitions
from agent_runtime_server.agents.wire_names import wire_name
from agent_runtime_server.core.transcript import Entry
from agent_runtime_server.llm.base import Model, ModelAnswer, ModelRequest, Sink, Tell
from agent_runtime_server.tools import catalogue


def offered_to(agent: Agent, declared: Sequence[v1.ToolSpec]) -> dict[str, v1.ToolSpec]:
    """Return the tools this agent is given, out of what the client declared, and the server's tools."""
    client = catalogue.offered(declared)
    given = {name: spec for name, spec in client.items() if agent.may_call(name, extra=not catalogue.is_standard(name))}
    return given | _server_tools(agent)


def _server_tools(agent: Agent) -> dict[str, v1.ToolSpec]:
    given = {name: spec for name, spec in catalogue.SERVER.items() if name in agent.tools}
    if "switch_agent" in given:
        if agent.handoff_agent_ids:
            given["switch_agent"] = catalogue.switch_agent(agent.handoff_agent_ids)
        else:
            del given["switch_agent"]
    return given


async def take_step(
    model: Model,
    agent: Agent,
    transcript: Sequence[Entry],
    specs: Iterable[v1.ToolSpec],
    *,
    default_model: str,
    sink: Sink | None,
    tell: Tell | None = None,
    others: Sequence[Agent] = (),
    tenant: str = "",
) -> ModelAnswer:
    """Ask the model what the agent does next; `others` are the agents it may hand over to."""
    given = tuple(specs)
    request = ModelRequest(
        model=agent.model or default_model,
        messages=messages(agent, transcript, others=others),
        tools=tool_definitions(given),
        tenant=tenant,
    )
    return _with_our_names(await model.answer(request, sink, tell), given)


def _with_our_names(answer: ModelAnswer, specs: Iterable[v1.ToolSpec]) -> ModelAnswer:
    if not answer.calls:
        return answer
    ours = {wire_name(spec.name): spec.name for spec in specs}
    calls = tuple(replace(call, name=ours.get(call.name, call.name)) for call in answer.calls)
    return replace(answer, calls=calls)
