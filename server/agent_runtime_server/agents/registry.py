"""The agents there are."""

from collections.abc import Iterable, Sequence

from agent_runtime import v1
from agent_runtime_server.agents.architect import ARCHITECT
from agent_runtime_server.agents.ask import ASK
from agent_runtime_server.agents.coder import CODER
from agent_runtime_server.agents.debug import DEBUG
from agent_runtime_server.agents.definition import Agent
from agent_runtime_server.agents.orchestrator import ORCHESTRATOR
from agent_runtime_server.core.errors import CallerError


class Registry:
    """Finds agents by id; the order is the order in which they are listed."""

    def __init__(self, agents: Iterable[Agent]) -> None:
        self._agents: dict[str, Agent] = {}
        for agent in agents:
            if agent.agent_id in self._agents:
                raise ValueError(f"two agents are called {agent.agent_id!r}")
            self._agents[agent.agent_id] = agent

    def find(self, agent_id: str) -> Agent | None:
        """Return the agent, or None."""
        return self._agents.get(agent_id)

    def get(self, agent_id: str) -> Agent:
        """Return the agent; raise AGENT_NOT_FOUND when there is none."""
        agent = self.find(agent_id)
        if agent is None:
            known = ", ".join(self._agents)
            message = f"There is no agent {agent_id[:64]!r}; the agents are {known}."
            raise CallerError(
                v1.ERROR_REASON_AGENT_NOT_FOUND, message, metadata={"agentId": agent_id[:64], "known": known}
            )
        return agent

    def all(self) -> Sequence[Agent]:
        """Return every agent."""
        return tuple(self._agents.values())

    def others(self, agent: Agent) -> Sequence[Agent]:
        """Return the agents this one may hand over to."""
        ids = (agent_id for agent_id in agent.handoff_agent_ids if agent_id != agent.agent_id)
        return tuple(self._agents[agent_id] for agent_id in ids if agent_id in self._agents)


def builtin() -> Registry:
    """Return the registry of the agents this service brings along."""
    return Registry((ORCHESTRATOR, CODER, ARCHITECT, DEBUG, ASK))
