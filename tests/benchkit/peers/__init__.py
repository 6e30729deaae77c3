"""Other agent servers, each in an environment of its own; their files here run there."""
