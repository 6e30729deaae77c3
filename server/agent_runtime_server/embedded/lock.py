"""The lock on one server's directory; its file says who holds it and where the server listens."""

import fcntl
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True)
class Holding:
    """What the lock's holder tells those who would join its server."""

    url: str
    holder_pid: int
    """The process on whose behalf the server runs."""
    supervisor_pid: int
    """Its child that started the server and stops it."""
    server_pid: int


class DirectoryLock:
    """An flock, which the kernel releases however its holder ends."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def take(self) -> bool:
        """Take the lock if it is free; its file is empty until `publish`."""
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        os.ftruncate(self._file, 0)
        return True

    def publish(self, holding: Holding) -> None:
        """Say that the server is ready."""
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, json.dumps(asdict(holding)).encode(), 0)

    def withdraw(self) -> None:
        """Say that the server is no longer ready."""
        os.ftruncate(self._file, 0)

    def holding(self) -> Holding | None:
        """Return what the holder published, unless it is not ready or has just died."""
        try:
            holding = Holding(**json.loads(os.pread(self._file, 65536, 0)))
            os.kill(holding.supervisor_pid, 0)
        except PermissionError:
            return holding  # it lives, as another user
        except (ValueError, TypeError, ProcessLookupError):
            return None
        return holding
