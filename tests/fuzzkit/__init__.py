"""Fuzzing: a real server gets hostile messages, bytes and streams, and what reads model streams gets broken ones."""
