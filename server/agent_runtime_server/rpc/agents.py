"""AgentService: the catalogue of agents."""

from agent_runtime import v1
from agent_runtime_server.core.errors import CallerError
from agent_runtime_server.rpc.pages import fingerprint, make_token, page_size, read_token
from agent_runtime_server.rpc.replica import Replica
from agent_runtime_server.rpc.service import Call


class AgentService:
    """The agents callers may use."""

    def __init__(self, replica: Replica) -> None:
        self._agents = replica.services.agents

    async def get_agent(self, request: v1.GetAgentRequest, _call: Call) -> v1.GetAgentResponse:
        """Return one agent."""
        agent = self._agents.get(request.agent_id)
        if request.revision and request.revision != agent.revision:
            message = f"agent {agent.agent_id} is at revision {agent.revision}; older ones are not kept"
            raise CallerError(v1.ERROR_REASON_AGENT_NOT_FOUND, message)
        return v1.GetAgentResponse(agent=agent.to_proto())

    async def list_agents(self, request: v1.ListAgentsRequest, _call: Call) -> v1.ListAgentsResponse:
        """Return a page of agents."""
        limit = page_size(request.page_size, 50, 500)
        bound_to = fingerprint(request, "page_token", "page_size")
        start = int(read_token(request.page_token, bound_to, (int,))[0]) if request.page_token else 0
        agents = self._agents.all()
        response = v1.ListAgentsResponse(agents=[agent.to_proto() for agent in agents[start : start + limit]])
        if start + limit < len(agents):
            response.next_page_token = make_token(bound_to, (start + limit,))
        return response
