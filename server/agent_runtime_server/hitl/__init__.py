"""Humans in the loop: which calls run at once, which wait for a decision, which are refused."""
