"""Where the embedded servers keep their data and their sockets."""

import hashlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent_runtime_server.embedded.accounts import Account, give
from agent_runtime_server.embedded.errors import EmbeddedError

APP = "agent-runtime"
LONGEST_SOCKET_PATH = 100  # bytes; the kernels allow 107 (Linux) and 103 (macOS)
LONGEST_SOCKET_NAME = len("/.s.PGSQL.5432.lock")
PLAIN = re.compile(r"[\w/.+-]+", re.ASCII)  # needs no quoting in URLs and in Postgres's list of directories


def default_state_dir() -> Path:
    """Return where the data goes when nobody says otherwise."""
    if os.geteuid() == 0:
        return Path("/var/lib") / APP
    home = os.environ.get("XDG_STATE_HOME")
    return (Path(home) if home else Path.home() / ".local" / "state") / APP


def make_state_dir(path: Path, account: Account | None) -> Path:
    """Create the state directory and return its real path; another account may pass through it."""
    path.mkdir(mode=0o700 if account is None else 0o711, parents=True, exist_ok=True)
    return path.resolve()


def check_reachable(path: Path, account: Account) -> None:
    """Raise when the account cannot pass through a directory on the way to the path."""
    for directory in (path, *path.parents):
        found = directory.stat()
        shift = 6 if found.st_uid == account.uid else 3 if found.st_gid == account.gid else 0
        if not found.st_mode >> shift & 0o1:
            raise EmbeddedError(
                f"the embedded servers run as {account.name}, who cannot pass through {directory}: allow it "
                f"(chmod o+x) or set AGENT_RUNTIME_STATE_DIR to a directory that everyone can reach"
            )


def make_private(path: Path, account: Account | None) -> Path:
    """Create a directory that only the servers' account can enter, or check that this one is."""
    try:
        path.mkdir(mode=0o700)
        give(path, account)
    except FileExistsError:
        _check_private(path, account.uid if account else os.geteuid())
    return path


def socket_dir(state_dir: Path, account: Account | None) -> Path:
    """Return the directory of the sockets: in the state directory, or a short one if its path will not do."""
    inside = state_dir / "run"
    short = len(os.fsencode(inside)) + LONGEST_SOCKET_NAME <= LONGEST_SOCKET_PATH
    if short and PLAIN.fullmatch(str(inside)):
        return make_private(inside, account)
    digest = hashlib.sha256(os.fsencode(state_dir)).hexdigest()[:12]
    return make_private(Path("/tmp").resolve() / f"{APP}-{os.geteuid()}-{digest}", account)  # noqa: S108


@contextmanager
def scratch_state_dir() -> Iterator[Path]:
    """Yield a state directory that the servers can use whoever they run as, and delete it afterwards."""
    path = Path(tempfile.mkdtemp(prefix=f"{APP}-", dir="/tmp"))  # short, and everyone can pass
    try:
        path.chmod(0o711)
        yield path
    finally:
        shutil.rmtree(path)


def _check_private(path: Path, uid: int) -> None:
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != uid or found.st_mode & 0o077:
        raise EmbeddedError(f"{path} must be a directory of user id {uid} with mode 0700")
