"""The Agent Runtime Service: see ARCHITECTURE.md for the layers and the way of one turn."""
