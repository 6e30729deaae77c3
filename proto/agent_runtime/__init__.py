"""The contract of the Agent Runtime Service, by version."""
