"""Make `.venv` and install the hash-locked requirements and this project into it; a second run finds it done.

`run` installs what the programs need, `dev` what the tests and checks need as well. Only the standard library is used.
"""

import ast
import contextlib
import fcntl
import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LOCKS = {"run": ROOT / "requirements.lock", "dev": ROOT / "requirements-dev.lock"}
UV_LOCK = ROOT / "scripts" / "requirements-uv.lock"
GRPCURL_LOCK = ROOT / "scripts" / "requirements-grpcurl.lock"
LOCKED = ["--require-hashes", "--only-binary", ":all:", "--no-deps", "-r"]
PROJECT = ["--no-deps", "--no-build-isolation", "--editable", str(ROOT)]


class CannotInstall(Exception):
    """Installing does not work here; the text says what to do."""


def say(text: str) -> None:
    """Tell the user what they are waiting for."""
    print(text, file=sys.stderr, flush=True)


def call(*command: str | Path, env: Mapping[str, str] | None = None) -> bool:
    """Run a command, its output going to standard error, and tell whether it succeeded."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, env=env, check=False, cwd=ROOT)
    return done.returncode == 0


def stamp(mode: str) -> Path:
    """Return the file that says what was installed for a mode."""
    return VENV / f".installed-{mode}"


def digest(mode: str) -> str:
    """Return what the stamp must hold: it changes with anything that the installation depends on."""
    parts = [str(ROOT).encode(), *(path.read_bytes() for path in (LOCKS[mode], ROOT / "pyproject.toml"))]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def is_installed(mode: str) -> bool:
    """Tell whether nothing is left to do; what the tests need covers what the programs need."""
    modes = ("run", "dev") if mode == "run" else ("dev",)
    return PYTHON.exists() and any(stamp(each).exists() and stamp(each).read_text() == digest(each) for each in modes)


@contextlib.contextmanager
def only_one() -> Iterator[None]:
    """Let two runs in one checkout install one after the other."""
    directory = os.open(ROOT, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


def make_venv() -> None:
    """Make the virtual environment, unless a sound one is there."""
    home = VENV / ".checkout"  # programs in it hold its path, so one that was moved is of no use
    if PYTHON.exists() and (not home.exists() or home.read_text() == str(ROOT)):
        return
    say(f"Making {VENV} with Python {platform.python_version()} …")
    base = getattr(sys, "_base_executable", sys.executable)
    if importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip"):
        made = call(base, "-m", "venv", "--clear", VENV)
    elif uv := shutil.which("uv"):
        made = call(uv, "venv", "--quiet", "--clear", "--python", base, VENV)
    else:
        name = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
        raise CannotInstall(f"{base} lacks the modules venv and ensurepip: on Debian or Ubuntu, apt install {name}")
    if not made:
        raise CannotInstall(f"making {VENV} failed; its reason is above")
    home.write_text(str(ROOT))


def find_uv() -> str | None:
    """Return the machine's uv, or one of our own, or None when there is none to be had."""
    if found := shutil.which("uv"):
        return found
    own = VENV / "bin" / "uv"
    if own.exists() or call(PYTHON, "-m", "pip", "install", "-qq", *LOCKED, UV_LOCK):
        return str(own)
    return None


def uv_environment() -> dict[str, str]:
    """Return the environment for uv, which does not read pip's configuration: where there is one, it decides."""
    env = dict(os.environ)
    for pip_name, uv_name in (("index-url", "UV_DEFAULT_INDEX"), ("cert", "SSL_CERT_FILE")):
        value = pip_setting(pip_name)
        if value and not any(env.get(name) for name in (uv_name, "UV_INDEX_URL")):
            env[uv_name] = value
    return env


def pip_setting(name: str) -> str | None:
    """Return one setting of pip's, from its files or its variables."""
    said = subprocess.run([PYTHON, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False)
    for line in said.stdout.splitlines():
        key, _, value = line.partition("=")
        if key.rpartition(".")[2] == name:
            return str(ast.literal_eval(value))
    return None


def install(mode: str) -> None:
    """Install the lock and the project: quickly by uv, else by pip."""
    lock = LOCKS[mode]
    say(f"Installing the packages of {lock.name} (once, and after each change of it) …")
    if (uv := find_uv()) is not None:
        env = uv_environment()
        install_by = [uv, "pip", "install", "--python", str(PYTHON)]
        progress = [] if sys.stderr.isatty() else ["--quiet"]
        if call(*install_by, *progress, *LOCKED, lock, env=env) and call(*install_by, "--quiet", *PROJECT, env=env):
            return
        say("uv did not manage it; trying pip, which takes a minute …")
    pip = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check"]
    if not (call(*pip, "--quiet", *LOCKED, lock) and call(*pip, "--quiet", *PROJECT)):
        raise CannotInstall("the packages could not be installed; the reason is above")


def install_grpcurl() -> None:
    """Install grpcurl where there is one; the tests that need it are skipped elsewhere."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        return
    options = ["--require-hashes", "--no-deps", "--no-build-isolation", "-r", str(GRPCURL_LOCK)]
    by_uv = [find_uv() or "uv", "pip", "install", "--quiet", "--python", str(PYTHON)]
    by_pip = [str(PYTHON), "-m", "pip", "install", "--quiet"]
    if not (shutil.which(by_uv[0]) and call(*by_uv, *options, env=uv_environment())) and not call(*by_pip, *options):
        say("grpcurl could not be installed; the tests that need it will be skipped")


def main() -> None:
    """Install for the mode given."""
    mode = sys.argv[1] if len(sys.argv) > 1 else ""
    if mode not in LOCKS:
        sys.exit("usage: scripts/bootstrap run|dev")
    if is_installed(mode):
        return
    with only_one():
        if is_installed(mode):
            return
        try:
            make_venv()
            for each in LOCKS:
                stamp(each).unlink(missing_ok=True)
            install(mode)
        except CannotInstall as error:
            sys.exit(f"scripts/bootstrap: {error}")
        if mode == "dev":
            install_grpcurl()
        stamp(mode).write_text(digest(mode))


if __name__ == "__main__":
    main()
