"""Outages: real servers on a Postgres and a Valkey that are killed under load and come back."""
