"""Refusals, as tests expect them."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from agent_runtime_server.core.errors import ServiceError


@contextmanager
def refused(reason: str, text: str = "", **metadata: str) -> Iterator[None]:
    """Expect an error with this reason of the contract, this text somewhere in it, and this metadata."""
    with pytest.raises(ServiceError) as caught:
        yield
    assert caught.value.wire_reason == reason
    assert text in str(caught.value)
    assert metadata.items() <= caught.value.metadata.items()
