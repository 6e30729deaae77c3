"""The TypeScript client of the tests: installed and built once, and again when what it is made of has changed."""

import asyncio
import hashlib
import shutil
import sys
from pathlib import Path
from typing import Final

_TESTS: Final = Path(__file__).resolve().parent.parent
_PROTO: Final = _TESTS.parent / "proto"
_FOLDER: Final = _TESTS / "acceptance" / "typescript"
_OLDEST_NODE: Final = 20


class CommandFailed(Exception):
    """A program ended with another status than 0; the text has what it said."""


async def missing() -> str:
    """Return why TypeScript cannot be tried here, or nothing."""
    absent = [name for name in ("node", "npm") if shutil.which(name) is None]
    if absent:
        return f"{' and '.join(absent)} not found"
    version = (await _call("node", "--version")).strip().removeprefix("v")
    return "" if int(version.partition(".")[0]) >= _OLDEST_NODE else f"node {version} is older than {_OLDEST_NODE}"


async def build() -> Path:
    """Return the folder of the built programs."""
    sources = [_FOLDER / name for name in ("buf.gen.yaml", "package.json", "package-lock.json", "tsconfig.json")]
    packages = _digest(sources[1:3])
    if _stamp(_FOLDER / "node_modules") != packages:
        await _call("npm", "ci", "--no-audit", "--no-fund", "--loglevel=error")
        (_FOLDER / "node_modules" / ".stamp").write_text(packages)
    digest = _digest([*sources, *sorted(_FOLDER.glob("src/*.ts")), *sorted(_PROTO.rglob("*.proto"))])
    if _stamp(_FOLDER / "build") != digest:
        await _call(str(Path(sys.executable).parent / "buf"), "generate", str(_PROTO))
        await _call("node_modules/.bin/tsc")
        (_FOLDER / "build" / ".stamp").write_text(digest)
    return _FOLDER / "build" / "src"


async def run(program: Path, *arguments: str) -> str:
    """Run a built program and return its output."""
    return await _call("node", str(program), *arguments)


async def _call(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=_FOLDER,
    )
    out, err = await process.communicate()
    if process.returncode != 0:
        raise CommandFailed(f"{' '.join(command)}: status {process.returncode}\n{out.decode()}{err.decode()}")
    return out.decode()


def _digest(files: list[Path]) -> str:
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()


def _stamp(folder: Path) -> str:
    stamp = folder / ".stamp"
    return stamp.read_text() if stamp.exists() else ""
