"""The journal of tool calls: what was started and what came of it, kept through crashes.

A journal is a directory with a lock, a client id and one file a session. Each line of such a file is a
checksum and a JSON object; lines whose checksum is wrong (a torn write) are skipped. The line is on disk
before the effect it announces. It lies outside the workspace, where no tool call can reach it.
"""

import base64
import binascii
import fcntl
import hashlib
import json
import os
import stat
import threading
import time
import zlib
from pathlib import Path
from typing import Any, Final, Self

from google.protobuf.message import DecodeError

from agent_runtime import v1
from agent_runtime_client.errors import JournalFailed
from agent_runtime_client.records import Entry, finished, new_frame_id, started

_MOST_CLIENTS: Final = 64
_MOST_SESSIONS: Final = 200
_KEEP_SECONDS: Final = 30 * 24 * 3600
_COMPACT_BYTES: Final = 64 * 1024


class Journal:
    """One client's journal; holds the directory's lock until closed."""

    def __init__(self, directory: Path, lock: int) -> None:
        self.directory = directory
        self._lock_file = lock
        self._sessions: dict[str, dict[str, Entry]] = {}
        self._guard = threading.Lock()
        self.client_id = _client_id(directory)
        _prune(directory)

    @classmethod
    def for_workspace(cls, workspace: Path, *, session_id: str = "") -> Self:
        """Open a free journal for clients of `workspace`, in the user's state directory.

        A workspace that holds that directory, such as a home, has its journal in /var/tmp.
        """
        root = Path(os.path.realpath(workspace))
        name = hashlib.sha256(os.fsencode(root)).hexdigest()[:32]
        places = (_user_state() / "agent-runtime", Path(f"/var/tmp/agent-runtime-{os.getuid()}"))  # noqa: S108 - checked
        for place in places:
            if not place.is_relative_to(root):
                _claim(place)
                return cls.open(place / "clients" / name, session_id=session_id)
        raise JournalFailed(f"no journal fits outside the workspace {root}; work in a folder below it")

    @classmethod
    def open(cls, directory: Path, *, session_id: str = "") -> Self:
        """Open a free journal below `directory`, best the one that knows `session_id`.

        A restarted client finds its old journal again; a second one gets another, with another client id.
        """
        try:
            for slot in _slots(directory, session_id):
                slot.mkdir(mode=0o700, parents=True, exist_ok=True)
                lock = _try_lock(slot / "lock")
                if lock is not None:
                    return cls(slot, lock)
        except OSError as error:
            raise JournalFailed(f"cannot open the journal in {directory}: {error.strerror}") from error
        raise JournalFailed(f"all {_MOST_CLIENTS} journals in {directory} are in use")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the lock back."""
        lock, self._lock_file = self._lock_file, -1
        if lock >= 0:
            os.close(lock)

    def entry(self, session_id: str, call_id: str) -> Entry | None:
        """Return what was done about the call; None when nothing was."""
        with self._guard:
            return self._session(session_id).get(call_id)

    def start(self, session_id: str, call_id: str) -> Entry:
        """Record, before the effect, that the call is about to be run."""
        with self._guard:
            entries = self._session(session_id)
            entry = started(entries.get(call_id))
            self._write(session_id, {"call": call_id, "start": entry.start_frame})
            entries[call_id] = entry
            return entry

    def finish(self, session_id: str, result: v1.ToolResult) -> Entry:
        """Record the result before it is sent."""
        with self._guard:
            entries = self._session(session_id)
            entry = finished(entries.get(result.call_id), result)
            self._write(session_id, _finish_line(result, entry))
            entries[result.call_id] = entry
            return entry

    def forget(self, session_id: str, call_id: str) -> None:
        """Drop a call that is complete in the session's log, or was never run."""
        with self._guard:
            entries = self._session(session_id)
            if entries.pop(call_id, None) is None:
                return
            self._write(session_id, {"call": call_id, "done": True})
            path = self._path(session_id)
            # With no open call left there is nothing to remember.
            if not entries and path.stat().st_size > _COMPACT_BYTES:
                os.truncate(path, 0)

    def _session(self, session_id: str) -> dict[str, Entry]:
        if session_id not in self._sessions:
            self._sessions[session_id] = _load(self._path(session_id))
        return self._sessions[session_id]

    def _path(self, session_id: str) -> Path:
        return self.directory / _file_name(session_id)

    def _write(self, session_id: str, line: dict[str, Any]) -> None:
        if self._lock_file < 0:
            raise JournalFailed("the journal is closed")
        text = json.dumps(line, separators=(",", ":"))
        try:
            _append(self._path(session_id), f"{zlib.crc32(text.encode()):08x} {text}\n".encode())
        except OSError as error:
            raise JournalFailed(f"cannot write the journal in {self.directory}: {error.strerror}") from error


def _user_state() -> Path:
    base = os.environ.get("XDG_STATE_HOME", "")
    return Path(os.path.realpath(base if Path(base).is_absolute() else Path.home() / ".local" / "state"))


def _claim(place: Path) -> None:
    """Make sure that the directory is ours alone: /var/tmp is everybody's."""
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = place.lstat()
    except OSError as error:
        raise JournalFailed(f"cannot keep a journal in {place}: {error.strerror}") from error
    if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode) or found.st_mode & 0o022:
        raise JournalFailed(f"{place} can be written by others; make it a directory of your own")


def _file_name(session_id: str) -> str:
    return hashlib.sha256(session_id.encode()).hexdigest()[:32] + ".calls"


def _slots(directory: Path, session_id: str) -> list[Path]:
    slots = [directory / str(number) for number in range(_MOST_CLIENTS)]
    # Stable: among those that know the session, and among the others, the first free one wins.
    return sorted(slots, key=lambda slot: not (session_id and (slot / _file_name(session_id)).exists()))


def _try_lock(path: Path) -> int | None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _client_id(directory: Path) -> str:
    path = directory / "client_id"
    try:
        known = path.read_text(encoding="ascii", errors="replace").strip()
    except FileNotFoundError:
        known = ""
    if len(known) == 32 and known.isalnum() and known.isascii():
        return known
    made = new_frame_id()
    fresh = directory / "client_id.new"
    fresh.unlink(missing_ok=True)
    _append(fresh, made.encode())
    fresh.replace(path)
    _sync_directory(directory)
    return made


def _append(path: Path, data: bytes) -> None:
    """Append `data` on a line of its own, and return once it is on disk."""
    is_new = not path.exists()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        view = memoryview(b"\n" + data if torn else data)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if is_new:
        _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _load(path: Path) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return entries
    for raw in data.split(b"\n"):
        line = _checked(raw)
        if line is not None:
            _apply(entries, line)
    return entries


def _checked(raw: bytes) -> dict[str, Any] | None:
    checksum, _, text = raw.partition(b" ")
    if not text or f"{zlib.crc32(text):08x}".encode() != checksum:
        return None
    line = json.loads(text)
    return line if isinstance(line, dict) else None


def _apply(entries: dict[str, Entry], line: dict[str, Any]) -> None:
    call_id = line["call"]
    if "start" in line:
        entries.setdefault(call_id, Entry(line["start"]))
    elif "result" in line:
        result = _decoded(line["result"])
        if result is not None:
            entries[call_id] = Entry(line["started"], line["frame"], result)
    else:
        entries.pop(call_id, None)


def _finish_line(result: v1.ToolResult, entry: Entry) -> dict[str, Any]:
    data = base64.b64encode(result.SerializeToString(deterministic=True)).decode()
    return {
        "call": result.call_id,
        "started": entry.start_frame,
        "frame": entry.result_frame,
        "result": data,
    }


def _decoded(text: str) -> v1.ToolResult | None:
    try:
        return v1.ToolResult.FromString(base64.b64decode(text, validate=True))
    except (binascii.Error, DecodeError):
        return None


def _prune(directory: Path) -> None:
    """Drop the journals of sessions nobody used for long, and of the oldest beyond a number."""
    files = sorted(directory.glob("*.calls"), key=lambda path: path.stat().st_mtime, reverse=True)
    limit = time.time() - _KEEP_SECONDS
    for index, path in enumerate(files):
        if index >= _MOST_SESSIONS or path.stat().st_mtime < limit:
            path.unlink(missing_ok=True)
