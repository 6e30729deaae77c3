"""More turns than a server can take, or more of one tenant than of all others, and what becomes of those it takes."""
