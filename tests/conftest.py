"""Fixtures that any test may ask for."""

pytest_plugins = ("enginekit.postgres", "enginekit.standby")
