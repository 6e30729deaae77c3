"""Metrics are served on a port of their own, and a port that is taken is said to be taken."""

import socket

import pytest
from prometheus_client import CollectorRegistry

from agent_runtime_server.telemetry.metrics import served


def test_a_taken_port_is_refused_in_words() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(OSError, match=f"127.0.0.1:{port}: choose another --metrics-port"):
            served(CollectorRegistry(), "127.0.0.1", port).__enter__()
