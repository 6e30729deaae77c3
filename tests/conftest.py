"""Fixtures that any test may ask for."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

# Stores run as another user, so starting one forks, and gRPC's own handlers of a fork crash the child now and then.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

pytest_plugins = ("enginekit.postgres", "enginekit.standby")

TESTS: Final = Path(__file__).parent
LONGEST: Final = ("test_kill_matrix.py", "test_fuzz.py", "test_kill.py", "test_bad_input.py", "test_failing_models.py")
"""Files that take long, the longest first: where several share the work, none may be left with one of them alone."""
TRACED: Final = ("unit/core", "unit/engine", "contract", "integration")
"""Whose tests count for the coverage of the core and the engine: tracing makes tests take up to four times as long."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Trace only what counts; pytest-cov's own mark for the rest has no effect where several share the work."""
    if item.get_closest_marker("untraced") is None and any(item.path.is_relative_to(TESTS / part) for part in TRACED):
        return (yield)
    tracer = sys.gettrace()
    sys.settrace(None)
    try:
        return (yield)
    finally:
        sys.settrace(tracer)
