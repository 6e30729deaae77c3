"""The parts of the embedded servers' launcher that need no server."""

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_runtime_server.embedded import EmbeddedError, binaries, default_state_dir, directories, scratch_state_dir
from agent_runtime_server.embedded.accounts import Account, server_account, spawn_identity
from agent_runtime_server.embedded.lock import DirectoryLock, Holding
from agent_runtime_server.embedded.processes import command_line, first_line_pid, stop_orphan, tail

ME = Account("me", os.geteuid(), os.getegid())
STRANGER = Account("stranger", os.geteuid() + 1000, os.getegid() + 1000)


@pytest.fixture
def idle() -> Iterator[subprocess.Popen[bytes]]:
    script = "print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout
        process.stdout.readline()  # before its first line a new process may have no command line yet
        yield process


class TestStateDirectory:
    def test_of_root_is_the_system_wide_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        assert default_state_dir() == Path("/var/lib/agent-runtime")

    def test_of_a_user_is_in_their_home(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.delenv("XDG_STATE_HOME", raising=False)
        assert default_state_dir() == tmp_path / ".local/state/agent-runtime"

    def test_follows_the_xdg_variable(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
        assert default_state_dir() == tmp_path / "agent-runtime"

    def test_for_scratch_is_gone_afterwards(self) -> None:
        with scratch_state_dir() as path:
            (path / "file").touch()
        assert not path.exists()

    def test_behind_a_private_directory_is_refused(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o700)
        with pytest.raises(EmbeddedError, match=r"run as stranger, who cannot pass through"):
            directories.check_reachable(tmp_path, STRANGER)


class TestSocketDirectory:
    def test_is_inside_the_state_directory(self) -> None:
        with scratch_state_dir() as path:
            assert directories.socket_dir(path, None) == path / "run"

    def test_is_a_short_and_constant_one_when_that_would_be_too_long(self, tmp_path: Path) -> None:
        deep = tmp_path / ("deep" * 30)
        first, again = directories.socket_dir(deep, None), directories.socket_dir(deep, None)
        first.rmdir()
        assert first == again
        assert len(str(first)) < 60

    def test_that_others_can_enter_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "run").mkdir(mode=0o755)
        with pytest.raises(EmbeddedError, match="mode 0700"):
            directories.make_private(tmp_path / "run", None)

    def test_that_is_a_link_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        (tmp_path / "run").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(EmbeddedError, match="must be a directory"):
            directories.make_private(tmp_path / "run", None)


class TestAccount:
    def test_of_an_ordinary_user_is_their_own(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        assert server_account(tmp_path) is None
        assert spawn_identity(None) == {}

    def test_of_root_is_one_without_rights(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        account = server_account(tmp_path)
        assert account is not None
        assert account.name in ("postgres", "nobody")
        assert spawn_identity(account) == {"user": account.uid, "group": account.gid, "extra_groups": []}


class TestPrograms:
    def test_the_wheel_comes_first(self) -> None:
        assert (binaries.find_postgres(None).bin_dir / "initdb").exists()
        assert binaries.find_postgres(None) == binaries.find_postgres(binaries.POSTGRES_MAJOR)

    def test_without_wheels_the_text_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(binaries, "_package_dir", lambda _name: None)
        monkeypatch.setattr(binaries, "SYSTEM_POSTGRES", ())
        monkeypatch.setenv("PATH", "")
        with pytest.raises(EmbeddedError, match=r"agent-runtime\[embedded\].*AGENT_RUNTIME_DATABASE_URL"):
            binaries.find_postgres(None)
        with pytest.raises(EmbeddedError, match=r"agent-runtime\[embedded\].*AGENT_RUNTIME_REDIS_URL"):
            binaries.find_valkey()

    @pytest.mark.parametrize(("said", "found"), [("18", True), ("17", False)])
    def test_a_system_postgres_must_be_of_the_same_major(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: str, found: bool
    ) -> None:
        for name in ("postgres", "initdb"):
            (tmp_path / name).write_text(f"#!/bin/sh\necho 'postgres (PostgreSQL) {said}.1'\n")
            (tmp_path / name).chmod(0o755)
        monkeypatch.setattr(binaries, "_package_dir", lambda _name: None)
        monkeypatch.setattr(binaries, "SYSTEM_POSTGRES", (str(tmp_path),))
        monkeypatch.setenv("PATH", "")
        if found:
            assert binaries.find_postgres(None).bin_dir == tmp_path
        else:
            with pytest.raises(EmbeddedError):
                binaries.find_postgres(None)

    def test_are_put_where_another_account_can_run_them(self, tmp_path: Path) -> None:
        for umask in (0o077, 0o022):
            old = os.umask(umask)
            try:
                there = binaries.find_postgres(None).for_account(ME, tmp_path / str(umask))
            finally:
                os.umask(old)
            command = there.bin_dir / "postgres"
            assert subprocess.run([command, "--version"], capture_output=True).returncode == 0
            assert all(path.stat().st_mode & 0o005 == 0o005 for path in (command, *there.bin_dir.parents[:3]))


class TestLock:
    HOLDING = Holding("unix:///somewhere", os.getpid(), os.getpid(), os.getpid())

    def test_is_one_process_only(self, tmp_path: Path) -> None:
        with DirectoryLock(tmp_path / "lock") as first, DirectoryLock(tmp_path / "lock") as second:
            assert first.take()
            assert not second.take()
        with DirectoryLock(tmp_path / "lock") as third:
            assert third.take()

    def test_tells_others_what_its_holder_published(self, tmp_path: Path) -> None:
        with DirectoryLock(tmp_path / "lock") as first, DirectoryLock(tmp_path / "lock") as second:
            first.take()
            assert second.holding() is None
            first.publish(self.HOLDING)
            assert second.holding() == self.HOLDING
            first.withdraw()
            assert second.holding() is None

    def test_says_nothing_of_a_dead_holder(self, tmp_path: Path, idle: subprocess.Popen[bytes]) -> None:
        with DirectoryLock(tmp_path / "lock") as lock:
            lock.publish(Holding("", idle.pid, idle.pid, idle.pid))
            assert lock.holding() is not None
            idle.kill()
            idle.wait()
            assert lock.holding() is None

    def test_is_not_inherited_by_the_servers(self, tmp_path: Path) -> None:
        with DirectoryLock(tmp_path / "lock") as lock:
            assert fcntl.fcntl(lock._file, fcntl.F_GETFD) & fcntl.FD_CLOEXEC


class TestOrphans:
    SIGNALS = (signal.SIGTERM, signal.SIGKILL)

    async def test_a_process_that_only_reuses_the_id_is_left_alone(
        self, tmp_path: Path, idle: subprocess.Popen[bytes]
    ) -> None:
        (tmp_path / "pid").write_text(f"{idle.pid}\n")
        await stop_orphan(tmp_path / "pid", "postgres", tmp_path, self.SIGNALS)
        assert idle.poll() is None

    async def test_a_server_on_another_directory_is_left_alone(self, tmp_path: Path) -> None:
        with _pretended_server(tmp_path / "other") as process:
            (tmp_path / "pid").write_text(f"{process.pid}\n")
            await stop_orphan(tmp_path / "pid", _NAME, tmp_path / "mine", self.SIGNALS)
            assert process.poll() is None
            process.kill()

    async def test_our_own_is_stopped(self, tmp_path: Path) -> None:
        with _pretended_server(tmp_path) as process:
            (tmp_path / "pid").write_text(f"{process.pid}\n")
            await stop_orphan(tmp_path / "pid", _NAME, tmp_path, self.SIGNALS)
            assert process.wait() == -signal.SIGTERM

    @pytest.mark.parametrize("text", [None, "", "not a number\n"])
    async def test_a_pid_file_that_says_nothing_is_no_orphan(self, tmp_path: Path, text: str | None) -> None:
        if text is not None:
            (tmp_path / "pid").write_text(text)
        assert first_line_pid(tmp_path / "pid") is None
        await stop_orphan(tmp_path / "pid", "postgres", tmp_path, self.SIGNALS)

    def test_the_dead_have_no_command_line(self, idle: subprocess.Popen[bytes]) -> None:
        assert "input()" in command_line(idle.pid)
        idle.kill()
        idle.wait()
        assert command_line(idle.pid) == ""


def test_the_tail_of_a_log_is_its_last_lines(tmp_path: Path) -> None:
    assert tail(tmp_path / "none") == ""
    (tmp_path / "log").write_text("\n".join(map(str, range(9))) + "\n")
    assert tail(tmp_path / "log", lines=2) == "7\n8"


_NAME = Path(sys.executable).name


def _pretended_server(directory: Path) -> subprocess.Popen[bytes]:
    script = "import signal; signal.signal(signal.SIGTERM, signal.SIG_DFL); print(flush=True); signal.pause()"
    process = subprocess.Popen([sys.executable, "-c", script, str(directory)], stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.readline()
    return process
