"""The terminal programs: everything that prints for people, and the commands they type."""
