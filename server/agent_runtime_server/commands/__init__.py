"""Terminal commands of the server."""
