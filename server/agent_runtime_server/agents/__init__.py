"""Agents: what each is told and may call, who takes a message, and one step of one agent."""
