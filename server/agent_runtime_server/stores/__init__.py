"""Where state lives: Postgres is the truth, Redis makes it fast."""
