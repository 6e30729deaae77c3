"""Walking a directory tree and searching in it, without following links.

Also a program of its own, started by `search.py` for each search: a regular expression can take years and
holds the interpreter while it runs, so only a process that can be killed keeps the client alive. It
therefore imports nothing but the standard library.
"""

import fnmatch
import json
import os
import re
import resource
import stat
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_DEEPEST: Final = 64
_MEMORY: Final = 1 << 30
_SNIPPET: Final = 300

SKIPPED: Final = frozenset({".git", ".hg", ".svn", ".venv", "__pycache__", "node_modules"})
"""Directories that a search leaves out."""


class Found(NamedTuple):
    """One entry below the directory that is walked; `parent` is open until the next one is asked for."""

    path: str
    name: str
    mode: int
    parent: int


def walk(directory: int, *, enter: Callable[[str], bool], prefix: str = "", depth: int = 0) -> Iterator[Found]:
    """Yield what lies below `directory`, sorted, each directory before its content."""
    try:
        with os.scandir(directory) as entries:
            names = sorted(entry.name for entry in entries)
    except OSError:
        return
    for name in names:
        try:
            mode = os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
        except OSError:
            continue
        yield Found(prefix + name, name, mode, directory)
        if stat.S_ISDIR(mode) and depth < _DEEPEST and enter(name):
            yield from _below(directory, name, enter, prefix, depth)


def _below(directory: int, name: str, enter: Callable[[str], bool], prefix: str, depth: int) -> Iterator[Found]:
    try:
        below = os.open(name, _DIRECTORY, dir_fd=directory)
    except OSError:
        return
    try:
        yield from walk(below, enter=enter, prefix=f"{prefix}{name}/", depth=depth + 1)
    finally:
        os.close(below)


def matches(pattern: str, path: str, name: str) -> bool:
    """Say whether a file name pattern means this entry; one with a slash is held against the path."""
    if "/" not in pattern:
        return fnmatch.fnmatchcase(name, pattern)
    return fnmatch.fnmatchcase(path, pattern) or (pattern.startswith("**/") and fnmatch.fnmatchcase(path, pattern[3:]))


def matcher(query: str, *, regex: bool, case_sensitive: bool) -> Callable[[str], bool]:
    """Return the test that a line must pass."""
    if regex:
        compiled = re.compile(query, 0 if case_sensitive else re.IGNORECASE)
        return lambda line: compiled.search(line) is not None
    if case_sensitive:
        return lambda line: query in line
    folded = query.casefold()
    return lambda line: folded in line.casefold()


def search(root: int, order: dict[str, Any]) -> Iterator[tuple[str, int, str]]:
    """Yield path, line number and line of each hit, file by file."""
    is_hit = matcher(order["query"], regex=order["regex"], case_sensitive=order["case_sensitive"])
    prefix = order["prefix"]
    if not stat.S_ISDIR(os.fstat(root).st_mode):
        yield from _search_file(root, prefix, is_hit, order)
        return
    for found in walk(root, enter=lambda name: name not in SKIPPED):
        if not stat.S_ISREG(found.mode) or not matches(order["file_pattern"], found.path, found.name):
            continue
        try:
            descriptor = os.open(found.name, _FILE, dir_fd=found.parent)
        except OSError:
            continue
        try:
            yield from _search_file(descriptor, prefix + found.path, is_hit, order)
        finally:
            os.close(descriptor)


def _search_file(
    descriptor: int, path: str, is_hit: Callable[[str], bool], order: dict[str, Any]
) -> Iterator[tuple[str, int, str]]:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        return
    data = os.read(descriptor, order["file_bytes"])
    if b"\0" in data[:8192]:
        return
    for number, line in enumerate(data.decode("utf-8", "replace").split("\n"), start=1):
        if is_hit(line.removesuffix("\r")[: order["line_length"]]):
            yield path, number, line.strip()[:_SNIPPET]


def main() -> None:
    """Read an order from standard input, and write each hit as a line of JSON."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    order = json.load(sys.stdin)
    try:
        for count, hit in enumerate(search(order["root"], order), start=1):
            sys.stdout.write(json.dumps(hit) + "\n")
            sys.stdout.flush()
            if count >= order["max_results"]:
                return
    except (re.error, RecursionError, OverflowError, MemoryError) as error:
        sys.stdout.write(json.dumps({"error": f"query: not a usable regular expression: {error}"}) + "\n")


if __name__ == "__main__":
    main()
