"""Routing: which agent takes a message."""

from agent_runtime_server.agents.routing.router import Route, route

__all__ = ["Route", "route"]
