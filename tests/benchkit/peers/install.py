"""Environments of the peers, made with pip when they are not there yet."""

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

_NEEDS: Final = {
    "a2a": ("a2a-sdk[grpc]==1.3.0", "httpx", "uvloop"),
    "agno": ("agno==3.1.10", "openai", "fastapi", "uvicorn[standard]", "sqlalchemy", "python-multipart"),
}
PEERS: Final = tuple(_NEEDS)
"""Names of the peers."""


async def environments(names: Sequence[str], folder: Path) -> dict[str, Path]:
    """Return the Python of each peer's environment."""
    return {name: await _environment(name, folder / name) for name in names}


async def _environment(name: str, folder: Path) -> Path:
    python, done = folder / "bin" / "python", folder / ".installed"
    if not done.exists():
        await _run(sys.executable, "-m", "venv", str(folder))
        await _run(str(python), "-m", "pip", "install", "--quiet", "--only-binary", ":all:", *_NEEDS[name])
        done.touch()
    return python


async def _run(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(*command)
    if await process.wait():
        raise SystemExit(f"scripts/bench: {' '.join(command)} failed")
