"""What the doctor looks at, one check a function."""

import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import asyncpg
import httpx
import redis.asyncio
from pydantic import ValidationError

from agent_runtime_server.core.settings import AuthMode, Settings
from agent_runtime_server.embedded import EmbeddedError, default_state_dir
from agent_runtime_server.embedded.binaries import find_postgres, find_valkey
from agent_runtime_server.entrance import tls_files

_SECONDS: Final = 5.0
_OLDEST_PYTHON: Final = (3, 11)
_OLDEST_POSTGRES: Final = 14
_OLDEST_REDIS: Final = 7
_DISTRIBUTION: Final = "agent-runtime"


class State(Enum):
    """How a check went."""

    GOOD = auto()
    REMARK = auto()
    BAD = auto()


@dataclass(frozen=True)
class Finding:
    """One line of the table."""

    state: State
    subject: str
    detail: str


async def examine() -> list[Finding]:
    """Make every check that the settings call for."""
    findings = [_python(), _packages()]
    try:
        settings = Settings()
    except ValidationError as error:
        return [*findings, *_broken_settings(error)]
    findings.append(Finding(State.GOOD, "settings", "every AGENT_RUNTIME_* variable is understood"))
    findings.append(await _postgres(settings))
    findings.append(await _redis(settings))
    if settings.database_url is None or settings.redis_url is None:
        findings.append(_state_dir(settings))
    findings.append(await _model(settings))
    findings.append(_callers(settings))
    return findings


def _callers(settings: Settings) -> Finding:
    asked = "credentials are asked for" if settings.auth_mode is AuthMode.REQUIRED else "nobody is asked who they are"
    try:
        files = tls_files(settings)
        if files is None:
            return Finding(State.GOOD, "callers", f"{asked}; no TLS, so they come over loopback only")
        files.read()
    except (OSError, ValueError) as error:
        return Finding(State.BAD, "callers", str(error))
    return Finding(State.GOOD, "callers", f"{asked}; TLS by {files.chain}")


def _python() -> Finding:
    found = f"{platform.python_version()} in {sys.prefix}"
    if sys.version_info < _OLDEST_PYTHON:
        return Finding(State.BAD, "Python", f"{found}; 3.11 or newer is needed")
    return Finding(State.GOOD, "Python", found)


def _packages() -> Finding:
    missing: list[str] = []
    count = 0
    for name in _required():
        count += 1
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        return Finding(State.BAD, "packages", f"missing: {', '.join(missing)}; pip install 'agent-runtime[server]'")
    return Finding(State.GOOD, "packages", f"all {count} of the server's packages are installed")


def _required() -> Iterator[str]:
    """Names of the packages the client and the server need, whatever the platform's markers say."""
    for requirement in importlib.metadata.requires(_DISTRIBUTION) or ():
        optional = "extra ==" in requirement and not re.search(r"extra == ['\"]server['\"]", requirement)
        elsewhere = "sys_platform != " in requirement and sys.platform == "win32"
        found = re.match(r"[A-Za-z0-9._-]+", requirement)
        if found and not optional and not elsewhere:
            yield found[0]


def _broken_settings(error: ValidationError) -> Iterator[Finding]:
    for problem in error.errors(include_url=False, include_input=False):
        name = "_".join(str(part) for part in problem["loc"]).upper()
        yield Finding(State.BAD, "settings", f"AGENT_RUNTIME_{name}: {problem['msg']}")


async def _postgres(settings: Settings) -> Finding:
    url = settings.database_url
    if url is None:
        return _binary("Postgres", lambda: find_postgres(None).bin_dir / "postgres")
    return await _reach("Postgres", url, _ask_postgres)


async def _redis(settings: Settings) -> Finding:
    url = settings.redis_url
    if url is None:
        return _binary("Valkey", _valkey_command)
    return await _reach("Redis", url, _ask_redis)


def _valkey_command() -> Path:
    program, command = find_valkey()
    return program.bin_dir / command


def _binary(subject: str, find: Callable[[], Path]) -> Finding:
    try:
        command = find()
        said = subprocess.run([command, "--version"], capture_output=True, text=True, check=True, timeout=_SECONDS)  # noqa: S603
    except EmbeddedError as error:
        return Finding(State.BAD, subject, str(error))
    except (OSError, subprocess.SubprocessError) as error:
        return Finding(State.BAD, subject, f"the embedded one does not run: {type(error).__name__}")
    return Finding(State.GOOD, subject, f"embedded, {said.stdout.strip().splitlines()[0]}")


async def _reach(subject: str, url: str, ask: Callable[[str], Awaitable[Finding]]) -> Finding:
    try:
        return await ask(url)
    except (OSError, ValueError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        return Finding(State.BAD, subject, f"{place(url)}: {_why(error, url)}")
    except (redis.RedisError, httpx.HTTPError, httpx.InvalidURL) as error:
        return Finding(State.BAD, subject, f"{place(url)}: {_why(error, url)}")


async def _ask_postgres(url: str) -> Finding:
    connection = await asyncpg.connect(url, timeout=_SECONDS)
    try:
        version = connection.get_server_version()
    finally:
        await connection.close(timeout=_SECONDS)
    told = f"{place(url)}, version {version.major}"
    if version.major < _OLDEST_POSTGRES:
        return Finding(State.BAD, "Postgres", f"{told}; {_OLDEST_POSTGRES} or newer is needed")
    return Finding(State.GOOD, "Postgres", told)


async def _ask_redis(url: str) -> Finding:
    client = redis.asyncio.from_url(url, socket_timeout=_SECONDS, socket_connect_timeout=_SECONDS)
    try:
        info = await client.info("server")
    finally:
        await client.aclose()
    version = str(info.get("redis_version", "unknown"))
    told = f"{place(url)}, version {info.get('valkey_version', version)}"
    major = version.partition(".")[0]
    if major.isdecimal() and int(major) < _OLDEST_REDIS:
        return Finding(State.BAD, "Redis", f"{told}; {_OLDEST_REDIS} or newer, or Valkey, is needed")
    return Finding(State.GOOD, "Redis", told)


async def _model(settings: Settings) -> Finding:
    url = settings.llm_base_url
    if url is None:
        return Finding(State.REMARK, "model", "no AGENT_RUNTIME_LLM_BASE_URL: the built-in mock model answers")
    key = settings.llm_api_key.get_secret_value() if settings.llm_api_key else ""
    return await _reach("model", url, lambda found: _ask_model(found, key))


async def _ask_model(url: str, key: str) -> Finding:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    async with httpx.AsyncClient(timeout=_SECONDS, headers=headers) as client:
        answer = await client.get(f"{url.rstrip('/')}/models")
    if answer.status_code in {401, 403}:
        return Finding(State.BAD, "model", f"{place(url)} refuses AGENT_RUNTIME_LLM_API_KEY ({answer.status_code})")
    if not answer.is_success:
        return Finding(State.REMARK, "model", f"{place(url)} answers, but GET /models with {answer.status_code}")
    return Finding(State.GOOD, "model", f"{place(url)} answers")


def _state_dir(settings: Settings) -> Finding:
    folder = settings.state_dir or default_state_dir()
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        return Finding(State.BAD, "state", f"{existing} cannot be written to; set AGENT_RUNTIME_STATE_DIR")
    return Finding(State.GOOD, "state", f"kept in {folder}")


def place(url: str) -> str:
    """Where a URL points to, without the secrets it may carry."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "the URL is malformed"
    if not parts.scheme:
        return "the URL has no scheme"
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"


def _why(error: BaseException, url: str) -> str:
    said = " ".join(str(error).split())
    secret = urlsplit(url).password if "@" in url else None
    said = said.replace(secret, "***") if secret else said
    return f"{type(error).__name__}: {said}"[:200] if said else type(error).__name__
