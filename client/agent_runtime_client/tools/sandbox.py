"""Access to files of one directory tree, and to nothing outside of it.

A path is walked one component at a time: each directory is opened below the one before it, without
following links. So there is no moment between a check and its use in which a component could be swapped,
and no string comparison that a link, a mount or a trick of spelling could fool.
"""

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from agent_runtime_client.errors import ToolFailed, ToolRefused

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Not blocking, so that a pipe without a writer cannot hold us; a terminal must not become ours.
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

Parts = tuple[str, ...]


class Sandbox:
    """The workspace as the file tools see it."""

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.realpath(root))
        # Absolute paths may name the workspace as it was given, or as it really is.
        self._spellings = {self.root.parts, root.absolute().parts}
        if not self.root.is_dir():
            raise ToolFailed(f"workspace: {root} is not a directory")

    def parts(self, path: str) -> Parts:
        """Return the components of `path` below the workspace; refuse what leaves it."""
        if "\0" in path:
            raise ToolRefused("path: contains a NUL byte")
        if not path:
            raise ToolFailed("path: is empty")
        components = tuple(part for part in path.split("/") if part not in ("", "."))
        if ".." in components:
            raise ToolRefused(f"path: {path!r} contains '..', which is not allowed")
        return self._below_root(path, components) if path.startswith("/") else components

    @contextmanager
    def directory(self, parts: Parts, *, create: bool = False) -> Iterator[int]:
        """Open a directory; the descriptor is closed at the end."""
        current = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for index, name in enumerate(parts):
                below = _enter(current, name, parts[: index + 1], create=create)
                os.close(current)
                current = below
            yield current
        finally:
            os.close(current)

    @contextmanager
    def opened(self, parts: Parts) -> Iterator[int]:
        """Open a regular file or a directory for reading."""
        if not parts:
            with self.directory(parts) as descriptor:
                yield descriptor
            return
        with self.directory(parts[:-1]) as parent:
            descriptor = _open_existing(parent, parts)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def read(self, parts: Parts, limit: int) -> tuple[bytes, int]:
        """Return at most `limit` bytes of a regular file, and its whole size."""
        with self.opened(parts) as descriptor:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise ToolFailed(f"path: {_shown(parts)} is a directory")
            data = bytearray()
            while len(data) < limit and (chunk := os.read(descriptor, min(1 << 20, limit - len(data)))):
                data += chunk
            return bytes(data), max(status.st_size, len(data))

    def write(self, parts: Parts, data: bytes, *, create_dirs: bool) -> bool:
        """Write a regular file whole or not at all; return whether it is a new one.

        The text goes to a temporary file beside the target, which then takes the target's name.
        """
        if not parts:
            raise ToolFailed("path: is the workspace itself")
        with self.directory(parts[:-1], create=create_dirs) as parent:
            mode = _writable_mode(parent, parts)
            temporary = f".agent-runtime-{secrets.token_hex(8)}.tmp"
            try:
                _write_new(parent, temporary, data, mode)
                os.replace(temporary, parts[-1], src_dir_fd=parent, dst_dir_fd=parent)
            except OSError as error:
                _remove(parent, temporary)
                raise _failure(error, parts) from error
            return mode is None

    def make_directory(self, parts: Parts, *, parents: bool) -> bool:
        """Make a directory; return False when it was there."""
        if not parts:
            return False
        with self.directory(parts[:-1], create=parents) as parent:
            try:
                os.mkdir(parts[-1], dir_fd=parent)
            except FileExistsError:
                os.close(_enter(parent, parts[-1], parts, create=False))
                return False
            except OSError as error:
                raise _failure(error, parts) from error
            return True

    def _below_root(self, path: str, components: Parts) -> Parts:
        for root in self._spellings:
            below = root[1:]
            if components[: len(below)] == below:
                return components[len(below) :]
        raise ToolRefused(f"path: {path!r} is outside the workspace")


def _enter(parent: int, name: str, parts: Parts, *, create: bool) -> int:
    try:
        return os.open(name, _DIRECTORY, dir_fd=parent)
    except FileNotFoundError as error:
        if not create:
            raise ToolFailed(f"path: {_shown(parts)} does not exist") from error
    except OSError as error:
        raise _refusal(parent, parts) or _failure(error, parts) from error
    try:
        os.mkdir(name, dir_fd=parent)
    except FileExistsError:
        pass  # Somebody else made it just now; opening it tells what it is.
    except OSError as error:
        raise _failure(error, parts) from error
    return _enter(parent, name, parts, create=False)


def _open_existing(parent: int, parts: Parts) -> int:
    # Looked at before it is opened, because opening a device can already do something.
    refused = _refusal(parent, parts)
    if refused is not None:
        raise refused
    try:
        descriptor = os.open(parts[-1], _READ, dir_fd=parent)
    except OSError as error:
        raise _refusal(parent, parts) or _failure(error, parts) from error
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return descriptor
    os.close(descriptor)
    raise ToolRefused(f"path: {_shown(parts)} is not a regular file")


def _writable_mode(parent: int, parts: Parts) -> int | None:
    """Return the permissions of the file to be replaced; None when there is none."""
    refused = _refusal(parent, parts)
    if refused is not None:
        raise refused
    try:
        mode = os.stat(parts[-1], dir_fd=parent, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _failure(error, parts) from error
    if stat.S_ISDIR(mode):
        raise ToolFailed(f"path: {_shown(parts)} is a directory")
    if not mode & stat.S_IWUSR:
        raise ToolFailed(f"path: {_shown(parts)} is read-only")
    return stat.S_IMODE(mode)


def _write_new(parent: int, name: str, data: bytes, mode: int | None) -> None:
    descriptor = os.open(name, _CREATE, 0o666, dir_fd=parent)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        if mode is not None:
            os.fchmod(descriptor, mode)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(parent: int, name: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=parent)


def _refusal(parent: int, parts: Parts) -> ToolRefused | None:
    """Return why the thing at `parts` must not be touched, for what it is."""
    try:
        mode = os.stat(parts[-1], dir_fd=parent, follow_symlinks=False).st_mode
    except OSError:
        return None
    if stat.S_ISLNK(mode):
        return ToolRefused(f"path: {_shown(parts)} is a symbolic link; links are not followed")
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        return ToolRefused(f"path: {_shown(parts)} is not a regular file")
    return None


def _failure(error: OSError, parts: Parts) -> ToolFailed:
    if error.errno == errno.ENOTDIR:
        return ToolFailed(f"path: {_shown(parts)} is not a directory")
    if error.errno == errno.ENOENT:
        return ToolFailed(f"path: {_shown(parts)} does not exist")
    return ToolFailed(f"path: {_shown(parts)}: {error.strerror}")


def _shown(parts: Parts) -> str:
    return repr("/".join(parts))
