"""A port is kept for workers that share it, and refused when it is not theirs."""

import socket
from contextlib import suppress

import pytest

from agent_runtime_server.commands.port import reserved

HOST = "127.0.0.1"


def sharing(port: int) -> socket.socket:
    """Return a socket that listens as a worker does."""
    worker = socket.socket()
    worker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    worker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    worker.bind((HOST, port))
    worker.listen()
    return worker


def waiting(worker: socket.socket) -> int:
    """Take the connections that wait for a worker, and return how many there were."""
    worker.setblocking(False)
    taken = 0
    with suppress(BlockingIOError):
        while True:
            worker.accept()[0].close()
            taken += 1
    return taken


def test_workers_share_a_free_port_and_its_keeper_takes_none_of_their_connections() -> None:
    with reserved(HOST, 0) as port, sharing(port) as one, sharing(port) as other:
        for _ in range(20):
            socket.create_connection((HOST, port), timeout=10).close()
        assert waiting(one) + waiting(other) == 20


@pytest.mark.parametrize("shares", [True, False])
def test_a_port_on_which_somebody_listens_is_refused(*, shares: bool) -> None:
    with socket.create_server((HOST, 0), reuse_port=shares) as other:
        port = other.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot listen on {HOST}:{port}: is something else there"):
            reserved(HOST, port).__enter__()


def test_a_host_that_is_no_address_is_said_to_be_none() -> None:
    with pytest.raises(OSError, match="no address of this machine"):
        reserved("nowhere.invalid", 0).__enter__()
