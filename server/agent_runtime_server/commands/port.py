"""A port that is kept for workers to listen on together."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


@contextmanager
def reserved(host: str, port: int) -> Iterator[int]:
    """Keep a port, of which 0 takes a free one, from everybody but processes of this user that share it on purpose."""
    with ExitStack() as stack:
        for family, address in _addresses(host):
            try:
                port = _free(family, (address, port))
                holder = stack.enter_context(socket.socket(family))
                holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                holder.bind((address, port))  # it never listens, so it takes no connection from a worker
            except OSError as error:
                message = f"cannot listen on {host}:{port}: is something else there? choose another --port"
                raise OSError(message) from error
        yield port


def _addresses(host: str) -> list[tuple[socket.AddressFamily, str]]:
    try:
        found = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise OSError(f"--host {host} is no address of this machine") from error
    return [(family, str(address[0])) for family, _, _, _, address in found]


def _free(family: int, address: tuple[str, int]) -> int:
    """Return the port if nobody listens there, not even one who would share it."""
    with socket.socket(family) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of the past are no reason to refuse
        trial.bind(address)
        return int(trial.getsockname()[1])
