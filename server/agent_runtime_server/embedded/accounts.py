"""Whom the servers run as: Postgres refuses root, so root steps down to another account."""

import os
import pwd
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from agent_runtime_server.embedded.errors import EmbeddedError

PREFERRED = ("postgres", "nobody")


class SpawnIdentity(TypedDict, total=False):
    """The arguments of a subprocess that let it run as another account."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True)
class Account:
    """An account of this machine."""

    name: str
    uid: int
    gid: int


def server_account(state_dir: Path) -> Account | None:
    """Return the account that root hands the servers to, or None when they can run as ourselves."""
    if os.geteuid() != 0:
        return None
    return _owner_of_data(state_dir) or _first_known(PREFERRED)


def spawn_identity(account: Account | None) -> SpawnIdentity:
    """Return what a subprocess call needs to run as the account."""
    if account is None:
        return {}
    return {"user": account.uid, "group": account.gid, "extra_groups": []}


def give(path: Path, account: Account | None) -> None:
    """Make the account the owner of one file or directory."""
    if account is not None:
        os.chown(path, account.uid, account.gid)


def _owner_of_data(state_dir: Path) -> Account | None:
    """Data that an ordinary user left keeps its owner when root starts the servers on it."""
    for data in (state_dir / "postgres" / "data", state_dir / "valkey" / "data"):
        if data.exists() and (uid := data.stat().st_uid) != 0:
            try:
                return _account(pwd.getpwuid(uid))
            except KeyError:
                raise EmbeddedError(f"{data} belongs to user id {uid}, which has no account here") from None
    return None


def _first_known(names: tuple[str, ...]) -> Account:
    for name in names:
        try:
            return _account(pwd.getpwnam(name))
        except KeyError:
            continue
    raise EmbeddedError(
        f"running as root, the embedded servers need an account to step down to ({' or '.join(names)}); "
        "make one, run as another user, or set AGENT_RUNTIME_DATABASE_URL and AGENT_RUNTIME_REDIS_URL"
    )


def _account(entry: pwd.struct_passwd) -> Account:
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
